"""Gradients by other rules: the same spikes, and each rule against what it says."""

import math

import pytest
import torch
from torch import nn

from saccade.neurons import NEURONS, ATan, LIFConfig, Rectangle, Sigmoid, Triangle
from saccade.neurons.noisy import NoisyLIFConfig
from saccade.robust import MODES, backward
from saccade.robust.gradients import _Passing, acts_on, omega

CONFIGS = [
    LIFConfig(tau=2.0, decay_input=False, v_th=1.0, reset=reset, detach_reset=detach)
    for reset in ("hard", "soft", "none")
    for detach in (True, False)
]


def drive(T=5):
    return torch.randn(T, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1.2


def through(neuron, x, weights):
    leaf = x.clone().requires_grad_(True)
    y = neuron(leaf)
    (g,) = torch.autograd.grad((y * weights).sum(), leaf)
    return y.detach(), g


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "conversion"])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_spikes_stay_and_gradients_change(config, mode):
    neuron, x = config.build(channels=4), drive()
    model = nn.Sequential(neuron)
    weights = torch.randn_like(x)
    plain, g = through(model, x, weights)
    with backward(model, mode, Sigmoid(2.0) if mode == "bptt" else None):
        same, other = through(model, x, weights)
    assert torch.equal(plain, same)
    assert 0.05 < plain.mean() < 0.9
    assert not torch.allclose(g, other)
    assert torch.isfinite(other).all()
    after, again = through(model, x, weights)
    assert torch.equal(after, plain)
    assert torch.equal(again, g)


def test_neurons_around_a_lif_are_attacked_like_it():
    """Else a defence by noise in training would be attacked with its own gradients alone."""
    x = drive()
    weights = torch.randn_like(x)
    lif, noisy = (make.build(channels=4).eval() for make in (NEURONS["rat"], NoisyLIFConfig(lif=NEURONS["rat"])))
    for mode in MODES:
        surrogate = Sigmoid(2.0) if mode == "bptt" else None
        found = []
        for neuron in (lif, noisy):
            with backward(nn.Sequential(neuron), mode, surrogate):
                found.append(through(neuron, x, weights)[1])
        assert torch.equal(*found)
    always = NoisyLIFConfig(when="always", lif=NEURONS["rat"]).build(channels=4).eval()
    gated, drawn = NEURONS["gated_lif"].build(channels=4).eval(), NEURONS["dlif"].__class__(T=5).build(channels=4)
    for neuron in (always, gated, drawn):
        assert acts_on(neuron, "bptt")  # a surrogate
        assert not acts_on(neuron, "assg")
        torch.manual_seed(0)
        plain = through(neuron, x, weights)[1]
        torch.manual_seed(0)
        with backward(neuron, "bptt", Sigmoid(2.0)):
            assert not torch.equal(through(neuron, x, weights)[1], plain)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_through_time_with_any_slopes(config, monkeypatch):
    """With the slopes of a surrogate it is the neuron's own backward."""
    neuron, x = config.build(channels=4), drive()
    weights = torch.randn_like(x)
    _, expected = through(neuron, x, weights)
    monkeypatch.setattr(_Passing, "_followed_slopes", lambda self, d: config.surrogate.derivative(d))
    with backward(nn.Sequential(neuron), "assg"):
        _, found = through(neuron, x, weights)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_what_each_rule_says():
    neuron, x = LIFConfig(tau=2.0, decay_input=False).build(channels=4), drive()
    x[:, 0] = -1.0  # never fires
    model, weights = nn.Sequential(neuron), torch.randn_like(x)
    with backward(model, "bptr"):
        spikes, g = through(model, x, weights)
    fires = (spikes.mean(0, keepdim=True) > 0).expand_as(x)
    assert torch.equal(g, torch.where(fires, weights, 0.0))
    assert (g[:, 0] == 0).all()
    with backward(model, "hart"):
        _, g = through(model, x, weights)
    assert torch.equal(g, g[:1].expand_as(g))
    with backward(model, "conversion"):
        y, g = through(model, x, weights)
    assert torch.equal(y, x.clamp(min=0))
    assert torch.equal(g, weights * (x > 0))
    assert omega(0.87) == pytest.approx(3.074, abs=1e-3)


def test_slopes_that_follow_potentials_by_hand():
    neuron = LIFConfig(tau=2.0, decay_input=False, reset="none").build()
    passing = _Passing(neuron, "assg")
    distances = [torch.full((1, 1, 1), d, dtype=torch.float64) for d in (0.3, -0.5, 1.2)]
    size, spread = 1.0, 0.0
    for d in distances:
        found = float(passing._followed_slopes(d))
        u = abs(float(d))
        size = 0.9 * size + 0.1 * u
        spread = 0.9 * spread + 0.1 * abs(u - size)
        alpha = omega(0.87) / (size + 1.5 * spread + 1e-4)
        assert found == pytest.approx(alpha / 2 / (1 + (math.pi / 2 * alpha * u) ** 2))
    assert found == pytest.approx(float(ATan(alpha).derivative(distances[-1])))


def test_rules_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="a gradient mode is one of bptt, bptr"), backward(nn.Sequential(), "bpt"):
        pass
    with (
        pytest.raises(ValueError, match="acts on LIF neurons, and the model has none"),
        backward(nn.Sequential(), "hart"),
    ):
        pass
    with pytest.raises(ValueError, match="goes with the mode bptt"), backward(nn.Sequential(), "hart", Triangle()):
        pass


def test_surrogates_of_others():
    pytest.importorskip("spikingjelly", reason="SpikingJelly is not installed")
    from spikingjelly.activation_based import functional, neuron

    theirs = nn.Sequential(neuron.LIFNode(tau=2.0, decay_input=False, detach_reset=True, step_mode="m")).eval()
    ours = nn.Sequential(LIFConfig(tau=2.0, decay_input=False).build()).eval()
    x = drive().float()
    weights = torch.randn_like(x)
    for surrogate in (Rectangle(0.7), Sigmoid(3.0)):
        with backward(theirs, surrogate=surrogate), backward(ours, surrogate=surrogate):
            functional.reset_net(theirs)
            y, g = through(theirs, x, weights)
            mine, h = through(ours, x, weights)
        assert torch.equal(y, mine)
        assert torch.allclose(g, h, atol=1e-6)
        functional.reset_net(theirs)
