"""The LIF kernel against a plain numpy loop, and its corners."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.kernels import lif
from saccade.neurons import ATan, Rectangle, Sigmoid, StraightThrough, Triangle

CONSTANTS = {"decay": 0.5, "gain": 0.5, "v_th": 1.0, "surrogate": ATan()}


def numpy_lif(x, v, decay, gain, v_th, v_rest, v_reset, reset):
    """Scalar by scalar, float64, straight from the docstring's equations."""
    spikes, potentials = np.zeros_like(x), np.zeros_like(x)
    for t in range(len(x)):
        for i in np.ndindex(x.shape[1:]):
            u = v_rest + decay * (v[i] - v_rest) + gain * x[t][i]
            s = 1.0 if u >= v_th else 0.0
            v[i] = {"hard": u * (1 - s) + v_reset * s, "soft": u - v_th * s, "none": u}[reset]
            spikes[t][i], potentials[t][i] = s, u
    return spikes, v, potentials


@given(
    T=st.integers(1, 6),
    shape=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    reset=st.sampled_from(["hard", "soft", "none"]),
    decay=st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]),
    gain=st.sampled_from([1.0, 0.5, 0.3]),
    v_th=st.sampled_from([0.3, 0.5, 1.0]),
    v_rest=st.sampled_from([0.0, -0.2]),
    v_reset=st.sampled_from([0.0, 0.3, -0.5]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_equals_the_numpy_loop(T, shape, reset, decay, gain, v_th, v_rest, v_reset, seed):
    x = torch.randn(T, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2
    constants = {"decay": decay, "gain": gain, "v_th": v_th, "v_rest": v_rest, "v_reset": v_reset, "reset": reset}
    spikes, v, potentials = lif(x, **constants, surrogate=ATan(), record=True)
    expected = numpy_lif(x.numpy(), np.full(shape, v_rest), **constants)
    assert np.array_equal(spikes.numpy(), expected[0])
    assert np.allclose(v.numpy(), expected[1], atol=1e-12)
    assert np.allclose(potentials.numpy(), expected[2], atol=1e-12)


def test_fires_at_the_threshold_and_not_an_ulp_below():
    at = torch.ones(1, 1)
    below = torch.nextafter(at, torch.zeros(1))
    assert lif(at, decay=0.5, gain=1.0, v_th=1.0, surrogate=ATan())[0].item() == 1
    assert lif(below, decay=0.5, gain=1.0, v_th=1.0, surrogate=ATan())[0].item() == 0


@given(cut=st.integers(0, 7), reset=st.sampled_from(["hard", "soft", "none"]))
@settings(deadline=None)
def test_chunks_equal_the_whole(cut, reset):
    x = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(1)) * 2
    whole, v_whole, _ = lif(x, **CONSTANTS, reset=reset)
    first, v, _ = lif(x[:cut], **CONSTANTS, reset=reset)
    second, v, _ = lif(x[cut:], v, **CONSTANTS, reset=reset)
    assert torch.equal(torch.cat((first, second)), whole)
    assert torch.equal(v, v_whole)


@pytest.mark.parametrize("surrogate", [ATan(), Sigmoid(), Triangle(), StraightThrough()])
@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
def test_gradients_are_those_of_the_network_with_the_step_replaced(monkeypatch, surrogate, reset):
    """Forward with the surrogate's primitive instead of the step: autograd through it is gradcheck-able."""
    module = sys.modules["saccade.kernels.reference"]

    monkeypatch.setattr(module, "spike", lambda d, s: s.primitive(d))
    x = (torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)).requires_grad_()
    decay = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)

    def run(x, decay):
        kernel = lif(x, decay=decay, gain=0.7, v_th=0.9, reset=reset, detach_reset=False, surrogate=surrogate)
        return kernel[0], kernel[1]

    assert torch.autograd.gradcheck(run, (x, decay))


@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
@pytest.mark.parametrize("detach", [True, False])
def test_input_gradient_by_hand(reset, detach):
    """Back-propagation through time written out, in numpy."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(5, 4)) * 2
    decay, gain, v_th, width = 0.5, 0.8, 1.0, 1.0
    spikes, _, u = numpy_lif(x, np.zeros(4), decay, gain, v_th, 0.0, 0.0, reset)
    slope = np.maximum(0, width - np.abs(u - v_th)) / width**2
    grad_s, grad_v, expected = rng.normal(size=(5, 4)), np.zeros(4), np.zeros((5, 4))
    for t in reversed(range(5)):
        into_s = grad_s[t].copy()
        if reset == "hard":
            into_u = grad_v * (1 - spikes[t])
            into_s += 0 if detach else -grad_v * u[t]
        else:
            into_u = grad_v.copy()
            into_s += 0 if detach or reset == "none" else -grad_v * v_th
        into_u += into_s * slope[t]
        expected[t], grad_v = gain * into_u, decay * into_u
    tensor = torch.tensor(x, requires_grad=True)
    out, _, _ = lif(
        tensor, decay=decay, gain=gain, v_th=v_th, reset=reset, detach_reset=detach, surrogate=Triangle(width)
    )
    out.backward(torch.tensor(grad_s))
    assert np.allclose(tensor.grad.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_integrates_in_float32(dtype):
    x = (torch.randn(20, 2, 8, generator=torch.Generator().manual_seed(4)) * 2).to(dtype)
    spikes, v, _ = lif(x, **CONSTANTS)
    expected, _, _ = lif(x.float(), **CONSTANTS)
    assert spikes.dtype == dtype
    assert v.dtype == torch.float32
    assert torch.equal(spikes.float(), expected)


def test_corners():
    assert lif(torch.zeros(0, 2, 3), **CONSTANTS)[0].shape == (0, 2, 3)
    assert lif(torch.zeros(3, 0, 3), **CONSTANTS)[0].shape == (3, 0, 3)
    spikes, v, u = lif(torch.zeros(0, 2), v_rest=-0.5, record=True, **CONSTANTS)
    assert v.tolist() == [-0.5, -0.5]
    assert u.shape == spikes.shape
    x = torch.randn(4, 3, 5) * 3
    assert torch.equal(lif(x.transpose(1, 2), **CONSTANTS)[0], lif(x.transpose(1, 2).contiguous(), **CONSTANTS)[0])


def test_nan_never_fires_and_stays():
    x = torch.tensor([[float("nan")], [5.0]])
    spikes, v, _ = lif(x, **CONSTANTS)
    assert spikes.tolist() == [[0], [0]]
    assert v.isnan().all()


def test_per_channel_constants_broadcast():
    x = torch.full((1, 2, 3, 2, 2), 0.6)
    v_th = torch.tensor([0.5, 0.7, 0.6]).view(3, 1, 1)
    spikes, _, _ = lif(x, decay=0.5, gain=1.0, v_th=v_th, surrogate=Rectangle())
    assert spikes[0, 0, :, 0, 0].tolist() == [1, 0, 1]


def test_bad_input():
    with pytest.raises(ValueError, match="reset must be one of hard, soft, none, got 'Hard'"):
        lif(torch.zeros(2, 2), **CONSTANTS, reset="Hard")
    with pytest.raises(ValueError, match=r"\[T, N, ...\], got a 1-dimensional"):
        lif(torch.zeros(2), **CONSTANTS)
