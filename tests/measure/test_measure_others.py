"""Profiles of models that nobody here wrote: their neurons, their layouts, their inputs, their resets."""

import warnings

import pytest
import torch
from torch import nn

from saccade.measure import profile
from saccade.neurons import LIF


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Node(nn.Module):
    """A neuron whose membrane outlives the call; on steps along axis 0, 1, or one step a call."""

    def __init__(self, axis=0):
        super().__init__()
        self.axis, self.v = axis, 0.0

    def forward(self, x):
        spikes = []
        for step in x.unbind(self.axis) if self.axis is not None else [x]:
            u = 0.5 * self.v + step
            spikes.append((u >= 0.6).to(x))
            self.v = u * (1 - spikes[-1])
        return torch.stack(spikes, self.axis) if self.axis is not None else spikes[0]


def rest(model):
    for module in model.modules():
        if isinstance(module, Node):
            module.v = 0.0


class Net(nn.Module):
    def __init__(self, axis=0, how="whole"):
        super().__init__()
        self.a, self.n, self.b, self.how = nn.Linear(6, 5, bias=False), Node(axis), nn.Linear(5, 3, bias=False), how

    def forward(self, x):
        if self.how == "steps":
            return torch.stack([self.b(self.n(self.a(step))) for step in x])
        if self.how == "folded":
            return self.b(self.n(self.a(x).flatten(0, 1))).unflatten(0, x.shape[:2])
        return self.b(self.n(self.a(x)))


def counted(net, x):
    """Spikes by step, by hand."""
    seen = []
    handle = net.n.register_forward_hook(lambda module, args, y: seen.append(y))
    rest(net)
    with torch.no_grad():
        net(x)
    handle.remove()
    rest(net)
    return torch.stack(seen) if len(seen) > 1 else seen[0]


@pytest.mark.parametrize("steps", [3, 4])  # as many as there are samples, and not
@pytest.mark.parametrize(
    ("axis", "how", "word"),
    [(0, "whole", "first"), (None, "steps", "first"), (1, "whole", "second"), (None, "folded", "first")],
)
def test_layouts_of_neurons(axis, how, word, steps):
    net = Net(axis, how)
    nn.init.uniform_(net.a.weight)
    x = torch.rand(steps, 3, 6) if word == "first" else torch.rand(3, steps, 6)
    y = counted(net, x)
    y = y.unflatten(0, (steps, 3)) if how == "folded" else y if word == "first" else y.movedim(1, 0)
    found = profile(net, x, spiking=["Node"], reset=rest, time_axis=word)
    row = next(row for row in found.layers if row.name == "n")
    assert row.spikes_per_step == tuple(int(step.sum()) for step in y)
    assert (row.neurons, row.T, found.samples) == (5, steps, 3)
    assert sum(row.sops for row in found.layers) == 3 * int(y.sum())


def test_neurons_without_a_time_axis():
    net = Net(None)
    found = profile(net, torch.rand(4, 6), spiking={"n": (0, 1)}, reset=rest, time_axis="none")
    row = next(row for row in found.layers if row.name == "n")
    assert (row.neurons, row.T, row.neuron_steps) == (5, 1, 20)


def test_reset_between_batches():
    net, batches = Net(), [torch.rand(4, 3, 6), torch.rand(4, 3, 6)]
    nn.init.uniform_(net.a.weight)
    apart = [profile(net, x, spiking=["Node"], reset=rest, time_axis="first").total().spikes for x in batches]
    assert profile(net, batches, spiking=["Node"], reset=rest, time_axis="first").total().spikes == sum(apart)
    assert net.n.v == 0.0


def test_neurons_that_nothing_declares_are_named():
    net = Net()
    nn.init.uniform_(net.a.weight, 0, 0.3)
    with pytest.warns(UserWarning, match=r"n \(Node\) give spikes, but nothing declares them.*--spiking Node"):
        found = profile(net, torch.rand(4, 3, 6))
    assert found.to_json()["notes"] == list(found.notes) != []
    rest(net)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert profile(net, torch.rand(4, 3, 6), spiking=["Node"], time_axis="first").notes == ()
        profile(nn.Sequential(nn.Linear(6, 5), LIF(), nn.MaxPool1d(1), nn.ReLU()), torch.rand(4, 3, 6))


def test_silent_neurons_that_nothing_declares_are_named_by_their_class():
    class MyLIFNeuron(Node):
        pass

    net = nn.Sequential(nn.Linear(6, 5), MyLIFNeuron())
    nn.init.constant_(net[0].bias, -9.0)
    with pytest.warns(UserWarning, match="MyLIFNeuron"):
        profile(net, torch.rand(4, 3, 6))


def test_known_frameworks_are_counted_and_reset_without_a_word():
    base = type("BaseNode", (Node,), {"__module__": "spikingjelly.activation_based.neuron"})
    mine = type("MyNode", (base,), {"reset": lambda self: setattr(self, "v", 0.0), "__module__": "somebody"})
    net = Net()
    net.n = mine()
    nn.init.uniform_(net.a.weight)
    x = torch.rand(4, 3, 6)
    first, second = (profile(net, x).total().spikes for _ in range(2))
    assert first == second == int(counted(net, x).sum()) > 0


def test_input_that_is_spikes():
    class Fold(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = nn.Conv2d(2, 4, 3)

        def forward(self, x):
            return self.c(x.flatten(0, 1))

    x = (torch.rand(4, 2, 2, 8, 8) < 0.1).float()
    analog, spikes = profile(Fold(), x), profile(Fold(), x, input_levels=(0, 1))
    assert analog.total().macs > 0 == analog.total().sops
    assert "input_levels" in analog.notes[0]
    assert spikes.total().macs == 0 < spikes.total().sops
    assert spikes.notes == ()
    reached = nn.functional.conv_transpose2d(torch.ones(8, 1, 6, 6), torch.ones(1, 1, 3, 3))
    assert spikes.total().sops == int((x.flatten(0, 1) * reached).sum()) * 4
    assert profile(Fold(), 2 * x, input_levels=(0, 1, 2)).total().sops == 2 * spikes.total().sops
    with pytest.raises(ValueError, match="the input holds 2, which is not among its declared values 0, 1"):
        profile(Fold(), 2 * x, input_levels=(0, 1))


def test_drawn_spikes_are_spikes():
    class Draws(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = nn.Linear(6, 4)

        def forward(self, x):
            return self.c(torch.bernoulli(x))

    found = profile(Draws(), torch.rand(5, 6))
    assert found.total().macs == 0 < found.total().sops


def test_several_inputs_and_tokens():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.a, self.lif, self.head = (
                nn.Embedding(9, 6),
                nn.Linear(5, 6),
                LIF(v_th=0.2),
                nn.Linear(6, 2),
            )

        def forward(self, tokens, x):
            return self.head(self.lif(self.words(tokens) + self.a(x)))

    tokens, x = torch.randint(0, 9, (4, 3)), torch.rand(3, 5)
    said = {"inputs": 2, "time_axis": ("first", "none"), "input_levels": [range(9), None]}
    whole = profile(Both(), (tokens, x), **said)
    assert whole.samples == 3
    assert whole.total().spikes > 0
    assert profile(Both(), [(tokens, x, 7), (tokens, x, 7)], **said).samples == 6
    with pytest.raises(ValueError, match="expected 2 inputs"):
        profile(Both(), [(x,)], **said)
