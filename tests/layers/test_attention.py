"""The gates of SynA: shapes, ranges, gradients, and that no sample sees another."""

import pytest
import torch

from saccade.layers import ChannelGate, SpatialGate, SpikingShortcut, SynA, SynAGate, TimeGate
from saccade.neurons import NEURONS

LIF = NEURONS["lif"]

T, N, C, H, W = 6, 5, 8, 4, 4
GATES = {
    "T": (lambda **k: TimeGate(T, 2, **k), (T, N, 1, 1, 1)),
    "C": (lambda **k: ChannelGate(C, 2, **k), (1, N, C, 1, 1)),
    "S": (lambda **k: SpatialGate(3, **k), (1, N, 1, H, W)),
}


def wide(gate, scale=8.0):
    """Weights large enough for a spiking gate to open for some inputs and not for others."""
    with torch.no_grad():
        for p in gate.parameters():
            p.mul_(scale)
    return gate


@pytest.mark.parametrize("dim", GATES)
def test_gates_have_their_shape_and_range(dim):
    make, shape = GATES[dim]
    torch.manual_seed(1)
    x = torch.randn(T, N, C, H, W)
    g = make()(x)
    assert g.shape == shape
    assert ((g > 0) & (g < 1)).all()
    fired = [wide(make(neuron=LIF), 8.0)(x) for _ in range(20)]
    assert all(f.shape == shape for f in fired)
    assert set(torch.cat([f.flatten() for f in fired]).tolist()) == {0, 1}


def test_time_gate_by_hand():
    gate = TimeGate(2, 1).double()
    with torch.no_grad():
        gate.mlp[0].weight.copy_(torch.tensor([[1.0, -1.0], [0.5, 0.5]]))
        gate.mlp[2].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    x = torch.tensor([[1.0, 3.0], [0.0, 2.0]], dtype=torch.float64).view(2, 1, 2, 1, 1)
    # means (2, 1), maxima (3, 2): hidden relu(m W0) = (1, 1.5) and (1, 2.5); logits (1, 3) + (1, 5)
    assert torch.allclose(gate(x).flatten(), torch.sigmoid(torch.tensor([2.0, 8.0], dtype=torch.float64)))


@pytest.mark.parametrize("dim", GATES)
@pytest.mark.parametrize("spiking", [True, False])
def test_a_gate_does_not_see_the_rest_of_the_batch(dim, spiking):
    """The published spiking gate runs its LIF over the batch axis: this is the test it fails."""
    x = torch.randn(T, N, C, H, W, dtype=torch.float64)
    for seed in range(20):  # a gate that is always open or closed would agree with anything
        torch.manual_seed(seed)
        gate = wide(GATES[dim][0](neuron=LIF if spiking else None)).double()
        together = gate(x).detach()
        if 0.1 < together.mean() < 0.9:
            break
    assert 0.1 < together.mean() < 0.9
    for i in range(N):
        assert torch.allclose(gate(x[:, i : i + 1]), together[:, i : i + 1], atol=1e-12)
    assert torch.allclose(gate(x.flip(1)).flip(1), together, atol=1e-12)


def test_the_spiking_time_gate_runs_over_time():
    """A constant drive below threshold in one step fires after several: only a scan over T can."""
    gate = TimeGate(4, 1, neuron=LIF)
    with torch.no_grad():
        gate.mlp[0].weight.copy_(torch.eye(4))
        gate.mlp[2].weight.copy_(torch.eye(4) * 0.6)
    x = torch.ones(4, 1, 1, 1, 1)  # logits 1.2 at every step: u = 0.6, 0.9, 1.05 -> reset, 0.6
    assert gate(x).flatten().tolist() == [0, 0, 1, 0]


def test_gates_in_series_and_nonnegative_output():
    torch.manual_seed(0)
    x = torch.randn(T, N, C, H, W)
    for spiking in (True, False):
        gates = [wide(GATES[d][0](neuron=LIF if spiking else None)) for d in "TCS"]
        y = SynAGate(gates)(x)
        expected = x
        for gate in gates:
            expected = gate(expected) * expected
        assert torch.equal(y, expected.relu())
        assert y.min() >= 0


def closed_shortcut(trailing_relu):
    torch.manual_seed(0)
    gate = SynAGate([TimeGate(T, 2, neuron=LIF)], trailing_relu)
    with torch.no_grad():
        for p in gate.parameters():
            p.mul_(0.1)
    return SpikingShortcut(C, C, 1, gate, LIF.build(role="shortcut"))


def test_a_closed_gate_silences_its_shortcut_and_stops_every_gradient():
    """relu'(0) = 0: the absorbing state behind natural pruning."""
    shortcut = closed_shortcut(trailing_relu=True)
    y = shortcut(torch.randn(T, N, C, H, W))
    assert y.sum() == 0
    y.sum().backward()
    for name, p in shortcut.named_parameters():
        assert p.grad.abs().max() == 0, name


def test_without_the_relu_the_surrogate_reaches_a_closed_gate():
    shortcut = closed_shortcut(trailing_relu=False)
    y = shortcut(torch.randn(T, N, C, H, W))
    assert y.sum() == 0
    y.sum().backward()
    assert all(p.grad.abs().max() > 0 for p in shortcut.gate.parameters())


@pytest.mark.parametrize("dim", GATES)
def test_an_open_bias_opens_the_gate(dim):
    torch.manual_seed(0)
    x = torch.randn(T, N, C, H, W) * 0.1
    assert GATES[dim][0](neuron=LIF)(x).sum() == 0
    opened = GATES[dim][0](neuron=LIF, open_bias=2.5)
    assert opened(x).mean() == 1
    assert dict(opened.named_parameters())["bias"] == 2.5
    assert "bias" not in dict(GATES[dim][0](neuron=LIF).named_parameters())


def test_bad_gates():
    with pytest.raises(ValueError, match="a time gate with reduction 4 needs at least 4 steps \\(T\\), got 3"):
        TimeGate(3, 4)
    with pytest.raises(ValueError, match="built for T = 6 got a sequence of T = 4"):
        TimeGate(6, 2)(torch.zeros(4, 1, 1, 1, 1))
    with pytest.raises(ValueError, match="a channel gate with reduction 16"):
        ChannelGate(8, 16)
    with pytest.raises(ValueError, match="position must be one of a, b, c, d, got 'e'"):
        SynA(position="e")
    with pytest.raises(ValueError, match="ma names gates by T, C and S, got 'X'"):
        SynA(ma="X")


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ("a", {(0, "plain"), (0, "own"), (0, "first")}),
        ("c", {(0, "own"), (0, "first")}),
        ("d", {(1, "own"), (1, "first")}),
    ],
)
def test_positions(position, expected):
    syna = SynA(position=position)
    kinds = {"plain": (False, False), "own": (True, False), "first": (False, True)}
    found = {(i, kind) for i in (0, 1) for kind, where in kinds.items() if syna.on_backbone(i, *where)}
    assert found == expected
