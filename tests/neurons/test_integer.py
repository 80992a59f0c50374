"""Integer neurons: levels, gradients, states, and the binary spikes that they stand for; in both forms of the kernel."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from saccade import kernels
from saccade.kernels.integer import reference
from saccade.neurons import NEURONS, IntegerConfig, Stream, expanded_product, integrate_and_fire, unroll
from saccade.neurons.integer import Levels

CONFIGS = [
    IntegerConfig(),
    IntegerConfig(D=1),
    IntegerConfig(D=6, gain=1.0, divisor=3.0),
    IntegerConfig(stateful=True),
    IntegerConfig(D=3, gain=2.0, stateful=True, decay=0.25),
]


def random(*shape, scale=1.0, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * scale


@pytest.mark.parametrize("D", [1, 2, 4, 7])
def test_levels_switch_half_way_and_the_half_goes_up(D):
    layer = IntegerConfig(D=D).build()
    at = (torch.arange(1, D + 1, dtype=torch.float64) - 0.5) / D
    x = torch.stack((at, at - 1e-9, at + 1e-9))[:, None]
    y = torch.round(layer(x)[:, 0] * D)
    assert y[1].tolist() == list(range(D))
    assert y[2].tolist() == list(range(1, D + 1))
    if D in (1, 2, 4):  # where D x is exact
        assert torch.equal(y[0], y[2])


def test_the_switching_points_of_the_released_code():
    x = torch.tensor([0.1249, 0.125, 0.375, 0.625, 0.875, 5.0, -3.0, float("nan")])
    assert IntegerConfig().build()(x[None, None]).flatten().tolist() == [0, 0.25, 0.5, 0.75, 1, 1, 0, 0]


def test_gradients_are_ones_inside_and_zeros_outside():
    x = torch.linspace(-0.5, 1.5, 401, dtype=torch.float64).view(1, 1, -1).requires_grad_()
    IntegerConfig().build()(x).sum().backward()
    inside = (x > 0) & (x < 1)
    assert torch.equal(x.grad, inside.double())
    assert inside.sum() > 100


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("shape", [(4, 3, 5, 7), (1, 1), (7, 2, 4099)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_native_form_equals_the_reference(config, shape, dtype):
    x, v0, weight = random(*shape, dtype=dtype), random(*shape[1:], seed=1, dtype=torch.float32), random(*shape)
    found = []
    for form in ("native", "reference"):
        a, v = x.clone().requires_grad_(), v0.clone().requires_grad_() if config.stateful else None
        with kernels.use(form):
            y, last, _ = kernels.integer(a, v, config.constants())
        loss = (y * weight.float()).sum() + (last.square().sum() if config.stateful else 0)
        loss.backward()
        found.append([y.detach(), a.grad, *([last.detach(), v.grad] if config.stateful else [])])
    for native, plain in zip(*found, strict=True):
        assert native.dtype == plain.dtype
        assert torch.equal(native, plain) if native is found[0][0] else torch.allclose(native, plain, atol=1e-6)
    assert found[0][0].dtype == found[0][1].dtype == dtype
    assert found[0][0].count_nonzero() or shape == (1, 1)


def test_native_form_takes_any_dense_layout():
    x = random(4, 2, 6, 5, 5, dtype=torch.float32).contiguous()
    last = x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (4, 2))
    for config in CONFIGS:
        layer = config.build()
        assert torch.equal(layer(last), layer(x))
        assert torch.equal(layer(x[::2]), layer(x[::2].contiguous()))


def test_with_a_state_by_hand():
    """u = (u - s)/2 + 4x: 1.6 -> 2, -0.4 -> u = -0.2 + 1.6 = 1.4 -> 1, 0.4 -> u = 0.2 + 8 = 8.2 -> 4 -> u = 2.1 + 0 -> 2."""
    x = torch.tensor([0.4, 0.4, 2.0, 0.0], dtype=torch.float64).view(4, 1, 1)
    assert IntegerConfig(stateful=True).build()(x).flatten().tolist() == [0.5, 0.25, 1.0, 0.5]


def test_one_step_with_a_state_is_the_form_without():
    x = random(1, 3, 50)
    assert torch.equal(IntegerConfig(stateful=True).build()(x), IntegerConfig().build()(x))


def test_without_a_state_steps_do_not_matter():
    """T = 4 of a static image says four times what T = 1 says."""
    x = random(1, 3, 50)
    y = IntegerConfig().build()(x.expand(4, -1, -1))
    assert torch.equal(y, IntegerConfig().build()(x).expand(4, -1, -1))


@pytest.mark.parametrize("config", CONFIGS[:3])
def test_unrolled_spikes_are_the_level(config):
    x = random(3, 4, 200, scale=2)
    y = config.build()(x)
    D, gain, divisor = config.D, config.constants().gain, config.constants().divisor
    spikes = unroll(y, config)
    assert torch.equal(spikes.sum(0), torch.round(y * divisor))
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(integrate_and_fire(gain * x, D), spikes)


def test_layers_of_weights_see_the_sum_of_the_unrolled():
    config = IntegerConfig()
    y = config.build()(random(1, 2, 6, 9, 9))[0]
    weight = random(5, 6, 3, 3, seed=3)
    steps = unroll(y, config)
    summed = sum(F.conv2d(step, weight) for step in steps) / config.D
    assert torch.allclose(summed, F.conv2d(y, weight), rtol=0, atol=1e-12)


def test_products_are_expanded_one_operand_after_the_other():
    """Step by step they are not the product: only a part of its mass."""
    config = IntegerConfig()
    layer = config.build()
    q, k, v = (torch.round(layer(random(1, 2, 30, 8, seed=s))[0] * config.D) for s in range(3))
    binary = [torch.round(unroll(part / config.D, config)) for part in (q, k)]
    whole = q @ (k.transpose(-1, -2) @ v)
    assert torch.equal(expanded_product(*binary, v), whole)
    v_steps = torch.round(unroll(v / config.D, config))
    stepwise = sum(a @ (b.transpose(-1, -2) @ c) for a, b, c in zip(*binary, v_steps, strict=True))
    assert 0 < stepwise.sum() < 0.5 * whole.sum()


def test_levels_of_a_sample_are_its_own():
    torch.manual_seed(0)
    layer = NEURONS["di_lif"].build(channels=5).double()
    torch.nn.init.normal_(layer.w, std=0.1)
    x = random(4, 6, 5, 3, 3, scale=6).abs()
    limits = layer.limits(x).flatten()
    assert limits.unique().numel() > 1
    assert torch.equal(limits, limits.round())
    assert limits.min() >= 6
    assert limits.max() <= 12
    y = layer(x)
    for i in range(6):
        assert torch.equal(layer(x[:, i : i + 1]), y[:, i : i + 1])
        assert y[:, i].max() * 6 <= limits[i]
    y.sum().backward()
    assert layer.w.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="not causal|looks at"):
        Stream(layer)(x[:1])


def test_reference_without_steps():
    levels = Levels(0.5, 1.0, 4.0, 4.0, True)
    assert reference(torch.zeros(0, 2, 3), torch.zeros(2, 3), levels)[0].shape == (0, 2, 3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"D": 0}, "D, the highest level, must be 1 to 65536, got 0"),
        ({"gain": 0.0}, "gain must be above 0"),
        ({"divisor": float("inf")}, "divisor must be above 0 and finite"),
        ({"decay": 1.5}, r"decay must be in \[0, 1\]"),
    ],
)
def test_settings_are_checked(changes, words):
    with pytest.raises(ValueError, match=words):
        replace(IntegerConfig(), **changes)
    with pytest.raises(ValueError, match="give their number"):
        NEURONS["di_lif"].build()
