"""Memory-free neurons: the matrix, the recursion and the stream agree; causal; they learn as autograd says."""

import pytest
import torch
from torch import nn

from saccade import kernels
from saccade.neurons import (
    LIF,
    NEURONS,
    LeakMixingConfig,
    MaskedMixingConfig,
    Rectangle,
    SlidingMixingConfig,
    Stream,
    Triangle,
    recording,
)

T = 6
CONFIGS = {
    "leak": LeakMixingConfig(),
    "leak by channel": LeakMixingConfig(per="channel"),
    "leak, fixed": LeakMixingConfig(learn=False),
    "masked": MaskedMixingConfig(T=T),
    "masked, fixed": MaskedMixingConfig(T=T, learn=False),
    "sliding": SlidingMixingConfig(order=3),
    "sliding, longer than T": SlidingMixingConfig(order=9),
}
STREAMED = [name for name in CONFIGS if not name.startswith("masked")]


def drive(seed=0, steps=T, dtype=torch.float64):
    return torch.randn(steps, 3, 4, 5, 5, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 1.2


def make(name, seed=0):
    """A layer with values as training would leave them."""
    layer = CONFIGS[name].build(channels=4).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return layer


def by_loops(layer, x):
    """H one sum at a time, from the definition; differentiable."""
    A = layer.mixing(len(x))
    A = A.expand(x.shape[2], *A.shape[-2:])
    theta = layer.theta.expand(len(x))
    spikes, potentials = [], []
    for t in range(len(x)):
        h = sum(A[:, t, j].view(-1, 1, 1) * x[j] for j in range(t + 1))
        potentials.append(h)
        spikes.append(kernels.spike(h - theta[t], layer.config.surrogate))
    return torch.stack(spikes), torch.stack(potentials)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_parallel_is_the_sum_step_by_step(name, dtype):
    layer, x = make(name).to(dtype), drive(dtype=dtype)
    with recording(layer) as potentials:
        spikes = layer(x)
    expected, summed = by_loops(layer, x)
    assert 0.1 < spikes.mean() < 0.5
    assert torch.allclose(potentials[""][0], summed, atol=1e-6, rtol=0)
    near = (summed - layer.theta.view(-1, *[1] * (x.dim() - 1))).abs() < 1e-6
    assert torch.equal(spikes[~near], expected[~near])
    assert near.float().mean() < 1e-3


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_are_those_of_the_loop(name):
    layer, x = make(name), drive(1).requires_grad_()
    weights = drive(2)
    leaves = [x, *layer.parameters()]
    found = torch.autograd.grad((layer(x) * weights).sum(), leaves)
    expected = torch.autograd.grad((by_loops(layer, x)[0] * weights).sum(), leaves)
    for a, b in zip(found, expected, strict=True):
        assert a.abs().max() > 1e-3
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CONFIGS)
def test_mixing_is_lower_triangular_and_starts_at_powers_of_the_decay(name):
    A = CONFIGS[name].build(channels=4).mixing(T).detach()
    lags = torch.arange(T)[:, None] - torch.arange(T)
    inside = (lags >= 0) & (lags < getattr(CONFIGS[name], "order", T))
    assert torch.allclose(A, torch.where(inside, 0.5 ** lags.clamp(min=0).float(), 0.0).expand_as(A))
    changed = make(name).mixing(T).detach()
    assert not changed.triu(1).any()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_later_step_changes_nothing_before_it(name):
    layer, x = make(name), drive(3)
    for t0 in (1, 3, 5):
        other = x.clone()
        other[t0:] += 3
        a, b = layer(x), layer(other)
        assert torch.equal(a[:t0], b[:t0])
        assert not torch.equal(a[t0:], b[t0:])


@pytest.mark.parametrize("name", STREAMED)
@pytest.mark.parametrize("cuts", [(1, 1, 1, 1, 1, 1), (2, 4), (5, 1)])
def test_a_stream_gives_what_the_whole_gives(name, cuts):
    layer, x = make(name), drive(4)
    net = nn.Sequential(layer).eval()
    stream = Stream(net)
    found = torch.cat([stream(part) for part in x.split(cuts)])
    assert torch.equal(found, net(x))
    assert 0.1 < found.mean() < 0.5


def test_masked_is_for_one_T():
    layer = make("masked")
    with pytest.raises(ValueError, match=r"0 \(MaskedMixing\) needs T = 6, so it cannot be streamed"):
        Stream(nn.Sequential(layer))
    with pytest.raises(ValueError, match="built for T = 6 got a sequence of T = 4"):
        layer(drive(steps=4))
    with pytest.raises(ValueError, match="takes whole sequences, not chunks"):
        layer.step(drive(), torch.zeros(3, 4, 5, 5))


def test_no_decay_is_a_threshold_without_memory():
    x = drive(5)
    for config in (LeakMixingConfig(decay=0.0, learn=False), SlidingMixingConfig(order=1)):
        spikes = config.build().double()(x)
        assert torch.equal(spikes, (x >= 1).double())
        assert 0.1 < spikes.mean() < 0.5


@pytest.mark.parametrize("config", [LeakMixingConfig(), MaskedMixingConfig(T=1), SlidingMixingConfig()])
def test_one_step_is_a_lif(config):
    x = drive(6, steps=1)
    spikes = config.build().double()(x)
    assert torch.equal(spikes, LIF(tau=2.0, decay_input=False)(x))
    assert 0.1 < spikes.mean() < 0.5


def test_the_leak_is_the_lif_without_reset():
    x = drive(7)
    free = LeakMixingConfig(learn=False, surrogate=Triangle(1.0)).build().double()
    lif = LIF(tau=2.0, decay_input=False, reset="none").double()
    assert torch.equal(free(x), lif(x))
    assert not torch.equal(free(x), NEURONS["qp"].build()(x))


@pytest.mark.parametrize("name", ["masked", "sliding", "leak by channel"])
def test_channels_last_and_expanded_input(name):
    layer, x = make(name).float(), drive(8, dtype=torch.float32)
    last = x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, x.shape[:2])
    assert torch.equal(layer(last), layer(x))
    assert layer(last).stride() == last.stride()
    shown = x[0].clone().requires_grad_()
    (from_shown,) = torch.autograd.grad(layer(shown.expand(T, *shown.shape)).sum(), shown)
    written = x[0].expand(T, *shown.shape).contiguous().requires_grad_()
    (from_written,) = torch.autograd.grad(layer(written).sum(), written)
    assert torch.allclose(from_shown, from_written.sum(0), atol=1e-5)


@pytest.mark.parametrize("name", ["masked", "sliding", "leak"])
def test_it_compiles_to_one_graph(name):
    torch.compiler.reset()
    layer, x = make(name).float(), drive(9, dtype=torch.float32)
    assert torch.equal(torch.compile(layer, fullgraph=True, backend="eager")(x), layer(x))


def test_half_precision_is_mixed_in_single():
    layer, x = make("masked").float(), drive(10, dtype=torch.float32).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        spikes = layer(x)
    assert spikes.dtype == torch.bfloat16
    assert torch.equal(spikes.float(), layer(x.float()))


def test_recorded_potentials_carry_gradients():
    layer, x = make("masked"), drive(11).requires_grad_()
    with recording(layer) as potentials:
        layer(x)
    potentials[""][0].square().sum().backward()
    assert x.grad.abs().min() > 0  # no surrogate in between: silent neurons learn too
    assert layer.entries.grad.abs().min() > 0


def test_the_kernel_says_what_does_not_fit():
    with pytest.raises(ValueError, match=r"weights \[3, 4\] do not mix the steps of an input \[5, 2\]"):
        kernels.mix(torch.rand(5, 2), torch.rand(3, 4), torch.ones(()), Triangle())
    with pytest.raises(TypeError, match="takes floating input"):
        kernels.mix(torch.ones(5, 2, dtype=torch.int64), torch.rand(5, 5), torch.ones(()), Triangle())


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (LeakMixingConfig, {"per": "neuron"}, "per must be one of layer, channel, got 'neuron'"),
        (LeakMixingConfig, {"decay": 1.0}, r"must start inside \(0, 1\), got 1"),
        (LeakMixingConfig, {"decay": 1.5, "learn": False}, r"decay must be in \[0, 1\], got 1.5"),
        (SlidingMixingConfig, {"order": 0}, "order must be a whole number of steps, at least 1, got 0"),
        (SlidingMixingConfig, {"order": 2.5}, "order: Input should be a valid integer, got 2.5"),
        (MaskedMixingConfig, {"T": 0}, "T must be a whole number of steps, at least 1, got 0"),
        (LeakMixingConfig, {"v_th": float("nan")}, "v_th: is not a number"),
        (LeakMixingConfig, {"v_th": float("inf")}, "v_th must be finite"),
    ],
)
def test_config_errors(kind, fields, message):
    with pytest.raises(ValueError, match=message):
        kind(**fields)


def test_layer_errors():
    with pytest.raises(ValueError, match="masked mixing is for one number of steps: give T"):
        MaskedMixingConfig().build()
    with pytest.raises(ValueError, match="needs the number of channels"):
        LeakMixingConfig(per="channel").build()
    with pytest.raises(ValueError, match=r"values of 3 channels do not fit axis 2 of an input \[6, 3, 4, 5, 5\]"):
        LeakMixingConfig(per="channel").build(channels=3)(drive())
    assert "role='gate'" in repr(LeakMixingConfig(surrogate=Rectangle()).build(role="gate"))
