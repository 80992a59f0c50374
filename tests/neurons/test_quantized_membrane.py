"""Quantized membranes against Q-SNN's loop; levels; what a sample sees of its batch."""

import pytest
import torch

from saccade.neurons import NEURONS, QuantizedMembraneConfig, Stream, quantize_potential, recording

MODES = ("qsnn", "uniform", "pow2")


def drive(seed=0, T=10):
    return torch.randn(T, 4, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 1.5


def layer(mode="qsnn", bits=4, alpha="sample"):
    return QuantizedMembraneConfig(mode, bits, alpha, NEURONS["qp"]).build().double()


def test_it_is_the_released_loop_with_alpha_of_the_whole_tensor():
    x, u, expected = drive(), torch.zeros(4, 7, dtype=torch.float64), []
    for current in x:
        u = 0.5 * u + current
        s = (u > 1).double()
        u = torch.tanh(u * (1 - s))
        alpha = u.abs().max()
        u = torch.round(u / alpha * 7) * alpha / 7
        expected.append(s)
    spikes = layer(alpha="paper_code")(x)
    assert torch.equal(spikes, torch.stack(expected))
    assert 0.1 < spikes.mean() < 0.5


@pytest.mark.parametrize("mode", MODES)
def test_one_sample_never_sees_another_except_in_the_papers_code(mode):
    x = drive(1)
    whole, code = layer(mode, 3)(x), layer(mode, 3, "paper_code")(x)
    for n in range(4):
        assert torch.equal(layer(mode, 3)(x[:, n : n + 1])[:, 0], whole[:, n])
    alone = torch.cat([layer(mode, 3, "paper_code")(x[:, n : n + 1]) for n in range(4)], 1)
    assert not torch.equal(alone, code)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bits", [2, 3, 8])
def test_levels(mode, bits):
    sizes = torch.cat([torch.linspace(0, 2, 20001), torch.logspace(-130, 0, 1000, base=2)])
    v = torch.cat([-sizes, sizes]).double().unsqueeze(0)
    stored = quantize_potential(v, QuantizedMembraneConfig(mode, bits, alpha=0.5))
    assert len(stored.unique()) == 2**bits - 1  # as many below zero as above, and zero
    assert stored.max() == -stored.min() == 0.5
    if mode == "pow2":
        exponents = torch.log2(stored[stored > 0] / 0.5)
        assert torch.equal(exponents, exponents.round())
    else:
        assert torch.allclose(
            stored / 0.5 * (2 ** (bits - 1) - 1), (stored / 0.5 * (2 ** (bits - 1) - 1)).round(), atol=1e-5
        )


def test_rounding_passes_the_gradient():
    v = torch.tensor([[0.3, -0.2, 5.0]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(quantize_potential(v, QuantizedMembraneConfig("uniform", 2, alpha=1.0)).sum(), v)
    assert slope.tolist() == [[1, 1, 0]]  # nothing beyond alpha
    (slope,) = torch.autograd.grad(quantize_potential(v, QuantizedMembraneConfig("qsnn", 2)).sum(), v)
    assert torch.allclose(slope, 1 - torch.tanh(v.detach()).square())


def test_many_bits_without_tanh_are_nearly_the_lif():
    x = drive(2)
    assert (layer("uniform", 8)(x) != NEURONS["qp"].build()(x)).double().mean() < 0.02
    assert (layer("uniform", 2)(x) != NEURONS["qp"].build()(x)).double().mean() > 0.02


@pytest.mark.parametrize("mode", MODES)
def test_it_streams_records_and_learns(mode):
    x = drive(3).requires_grad_()
    neuron = layer(mode)
    stream = Stream(torch.nn.Sequential(neuron).eval())
    with torch.no_grad():
        assert torch.equal(torch.cat([stream(x[:3]), stream(x[3:])]), neuron(x))
    with recording(neuron) as potentials:
        spikes = neuron(x)
    assert torch.equal((potentials[""][0] > 1).double(), spikes)
    spikes.sum().backward()
    assert (x.grad[0] != 0).any()


def test_zero_potentials_stay_zero():
    zero = torch.zeros(2, 3)
    assert all(torch.equal(quantize_potential(zero, QuantizedMembraneConfig(mode)), zero) for mode in MODES)
    assert layer()(torch.zeros(0, 2, 3, dtype=torch.float64)).shape == (0, 2, 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "log"}, "membrane mode must be one of qsnn, uniform, pow2, got 'log'"),
        ({"bits": 1}, "1 bit, the sign, holds no level but zero"),
        ({"bits": 9}, "membrane bits must be 2 to 8, got 9"),
        ({"alpha": "batch"}, "alpha must be a number or one of sample, paper_code, got 'batch'"),
        ({"alpha": 0.0}, "alpha must be positive"),
    ],
)
def test_config_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        QuantizedMembraneConfig(**fields)
