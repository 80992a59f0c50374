"""Quantizers and binary weights: their levels, their gradients, their use in layers."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.layers import Conv2d, Linear, set_spike_packing
from saccade.layers.weight_forms import LSQ, SMALLEST_STEP, BalancedBinary, Binary, DoReFa, Uniform, bit_utilization


def weights(*shape, seed=0, scale=0.05):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


@given(
    bits=st.integers(1, 8),
    scale=st.sampled_from(["one", "mean", "mean_x2", "max", "percentile"]),
    granularity=st.sampled_from(["channel", "layer"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_levels_are_odd_multiples_and_never_zero(bits, scale, granularity, seed):
    w = weights(5, 7, 3, 3, seed=seed, scale=0.5)
    form = Uniform(bits, scale, granularity)
    used, gamma = form(w), form.scale(w).view(-1, 1, 1, 1)
    s = 2**bits - 1
    m = used / gamma * s
    assert torch.allclose(m, m.round(), atol=1e-3)
    assert (m.round().abs() % 2 == 1).all()
    assert m.abs().max() <= s + 1e-3
    assert all(len(channel.unique()) <= 2**bits for channel in (used / gamma))
    assert (used != 0).all()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_idempotent_once_gamma_is_frozen(bits):
    w = weights(6, 4, 3, 3)
    form = Uniform(bits)
    form.freeze(w)
    once = form(w)
    assert torch.equal(form(once), once)
    assert form.frozen.shape == (6,)
    assert torch.equal(Uniform(bits)(w), once), "freezing changed the result"


def test_gammas_by_hand():
    w = torch.tensor([[1.0, -3.0, 2.0, -2.0]])
    assert Uniform(4, "mean").scale(w).item() == 2
    assert Uniform(4, "max").scale(w).item() == 3
    assert Uniform(4, "one").scale(w).item() == 1
    assert Uniform(2, "mean_x2").scale(w).item() == 3
    assert Uniform(4, "mean_x2").scale(w).item() == pytest.approx(2 * 15 / 8)
    many = torch.linspace(-1, 3, 1001).view(1, -1)
    assert Uniform(4, "percentile").scale(many).item() == pytest.approx(2.96, abs=0.01)
    two = torch.tensor([[1.0, 1.0], [3.0, 3.0]])
    assert Uniform(4, granularity="layer").scale(two).flatten().tolist() == [2, 2]


def test_vanilla_is_the_plain_uniform_quantizer():
    """2 bits: levels -1, -1/3, 1/3, 1."""
    w = torch.tensor([[-2.0, -0.6, -0.2, 0.2, 0.6, 2.0]])
    third = 1 / 3
    assert torch.allclose(Uniform(2, "one")(w), torch.tensor([[-1.0, -third, -third, third, third, 1.0]]))


def test_estimators():
    w = torch.tensor([[0.1, -0.5, 2.0]]).requires_grad_()
    for ste, expected in (("identity", [1.0, 1.0, 1.0]), ("clip", [1.0, 1.0, 0.0]), ("paper_code", [2.0, 2.0, 2.0])):
        form = Uniform(4, "one", ste=ste)
        form.frozen = torch.tensor([0.5])
        w.grad = None
        form(w).sum().backward()
        assert w.grad.tolist() == [expected], ste


def test_rescaling_uses_every_level():
    """He initialisation of a 48 to 48 convolution; vanilla leaves most of the levels alone."""
    w = weights(48, 48, 3, 3, scale=math.sqrt(2 / (9 * 48)))
    vanilla = {bits: bit_utilization(w, Uniform(bits, "one"), percent=98) for bits in (2, 4, 8)}
    assert vanilla == {2: 0.5, 4: pytest.approx(0.25, abs=0.07), 8: pytest.approx(0.164, abs=0.02)}
    for bits in (2, 4, 8):
        assert bit_utilization(w, Uniform(bits), percent=98) == 1.0


def test_dorefa_by_hand():
    w = weights(4, 9)
    unit = torch.tanh(w) / (2 * torch.tanh(w).abs().max()) + 0.5
    assert torch.allclose(DoReFa(2)(w), 2 * torch.round(unit * 3) / 3 - 1)
    assert torch.allclose(DoReFa(1)(w), w.abs().mean() * torch.where(w >= 0, 1.0, -1.0))


def test_lsq_learns_its_step():
    w = weights(4, 100).requires_grad_()
    form = LSQ(3, w)
    step = form.step.item()
    assert step == pytest.approx(2 * w.abs().mean().item() / math.sqrt(3))
    used = form(w)
    codes = (used / step).round()
    assert codes.min() >= -4
    assert codes.max() <= 3
    assert torch.allclose(used, codes * step, atol=1e-6)
    used.sum().backward()
    inside = (w.detach() / step >= -4) & (w.detach() / step <= 3)
    assert torch.equal(w.grad != 0, inside)
    # Esser et al. (2020) eq. 3 and the scale of section 2.2
    ratio = w.detach() / step
    by_hand = torch.where(inside, torch.round(ratio) - ratio, ratio.clamp(-4, 3)).sum() / math.sqrt(400 * 3)
    assert form.step.grad.item() == pytest.approx(by_hand.item(), rel=1e-4)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_lsq_with_a_step_for_each_channel(bits):
    """A channel is what a layer of it alone would be, but for the scale of its gradient; and no channel leaves the grid."""
    w = weights(5, 30) * torch.tensor([0.01, 0.1, 1.0, 10.0, 0.0])[:, None]
    w.requires_grad_()
    form = LSQ(bits, w, "channel")
    low, top = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    assert form.step.shape == (5,)
    assert torch.allclose(form.step[:4], (2 * w.abs().mean(1) / math.sqrt(top))[:4].detach())
    used = form(w)
    weight_of = torch.arange(1.0, 151).view(5, 30)
    (used * weight_of).sum().backward()
    step, ratio = form.step.detach()[:, None], (w / form.step[:, None]).detach()
    for channel in range(4):
        alone = LSQ(bits, w[channel : channel + 1].detach())
        assert torch.allclose(used[channel], alone(w[channel : channel + 1])[0])
        codes = used[channel].detach() / step[channel]
        assert torch.allclose(codes, codes.round(), atol=1e-4)
        assert low <= codes.round().min() < codes.round().max() <= top
        assert len(codes.round().unique()) <= 2**bits
    assert not used[4].any()
    inside = (ratio >= low) & (ratio <= top)
    assert torch.allclose(w.grad, inside * weight_of)
    # Esser et al. (2020) eq. 3, scaled by the weights of the whole layer
    part = torch.where(inside, ratio.round() - ratio, ratio.clamp(low, top))
    by_hand = (part * weight_of).sum(1) / math.sqrt(150 * top)
    assert torch.allclose(form.step.grad, by_hand, rtol=1e-3, atol=1e-3)


def test_a_step_that_fell_below_nothing_is_used_positive_and_rises_again():
    w = weights(3, 40)
    form = LSQ(4, w, "channel")
    with torch.no_grad():
        form.step[1] = -0.5
    used = form(w)
    assert used.isfinite().all()
    assert used[1].abs().max() <= 8 * SMALLEST_STEP * (1 + 1e-6)
    (used - w).square().sum().backward()
    assert form.step.grad.isfinite().all()
    assert form.step.grad[1] < 0  # a step down the gradient is a larger step
    whole, scale = form.integers(w)
    assert (scale > 0).all()
    assert torch.allclose(whole * scale[:, None], used.detach())
    copied = copy.deepcopy(form)
    assert torch.equal(copied(w), used)
    form.keep_outputs(torch.tensor([0, 2]))
    assert torch.equal(form(w[[0, 2]]), used[[0, 2]].detach())


def test_binary_weights():
    w = torch.tensor([[0.5, -1.5, 0.0], [2.0, -2.0, 2.0]]).requires_grad_()
    used = Binary()(w)
    assert used.tolist() == [[pytest.approx(2 / 3), pytest.approx(-2 / 3), pytest.approx(2 / 3)], [2, -2, 2]]
    used.sum().backward()
    assert w.grad.tolist() == [[1, 0, 1], [0, 0, 0]]


def test_balanced_binary_weights():
    w = weights(3, 50).requires_grad_()
    form = BalancedBinary()
    used = form(w)
    for channel, row in zip(used, w.detach(), strict=True):
        standard = (row - row.mean()) / row.std()
        scale = 2 ** round(math.log2(standard.abs().mean()))
        assert torch.equal(channel, scale * torch.where(standard >= 0, 1.0, -1.0))
    assert form._t == pytest.approx(0.1)
    form.before_epoch(1.0)
    assert form._t == pytest.approx(10)


@pytest.mark.parametrize("make", [lambda w: Uniform(4), lambda w: DoReFa(4), lambda w: LSQ(4, w), lambda w: Binary()])
@pytest.mark.parametrize("layer", [Conv2d(8, 16, 3, padding=1), Linear(32, 8)], ids=["conv", "linear"])
def test_layers_compute_with_their_form(make, layer):
    """With spikes kept as bits and without; and the form can be taken away again."""
    x = (
        (torch.rand(4, 4, 8, 32, 32) < 0.2).float()
        if isinstance(layer, Conv2d)
        else (torch.rand(64, 16, 32) < 0.2).float()
    )
    plain = layer(x)
    layer.form = make(layer.weight)
    found = []
    for on in (True, False):
        set_spike_packing(layer, on)
        layer.zero_grad()
        y = layer(x)
        y.square().sum().backward()
        found.append((y, layer.weight.grad.clone()))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    used = layer.form(layer.weight).detach()
    fixed = torch.nn.functional
    expected = (
        fixed.conv2d(x.flatten(0, 1), used, layer.bias, padding=1).unflatten(0, (4, 4))
        if isinstance(layer, Conv2d)
        else fixed.linear(x, used, layer.bias)
    )
    assert torch.allclose(found[0][0], expected, atol=1e-5)
    assert not torch.allclose(found[0][0], plain, atol=1e-3)
    layer.form = None
    assert torch.equal(layer(x), plain)


def test_bad_settings():
    with pytest.raises(ValueError, match="bits must be 1 to 8, got 9"):
        Uniform(9)
    with pytest.raises(ValueError, match="bits must be 2 to 8, got 1"):
        LSQ(1, torch.ones(3))
    with pytest.raises(ValueError, match="steps must be one of channel, layer, got 'kernel'"):
        LSQ(4, torch.ones(3), "kernel")
    with pytest.raises(ValueError, match="scale must be one of one, mean, mean_x2, max, percentile, got 'median'"):
        Uniform(4, "median")
