"""Small copies of published and typical defects of spiking networks, each beside its mended form."""

import torch
from torch import nn
from torch.nn import functional as F

from saccade.kernels import lif
from saccade.layers import SynAGate, TimeGate
from saccade.neurons import LIF, NEURONS, ATan, Temporal

SURROGATE = ATan()


class HiddenLIF(nn.Module):
    """A neuron as other frameworks have it: its membrane outlives the call, until somebody resets it."""

    def __init__(self):
        super().__init__()
        self.v = None

    def forward(self, x):
        spikes, self.v, _ = lif(x, self.v, decay=0.5, gain=0.5, v_th=1.0, surrogate=SURROGATE)
        return spikes


def reset_hidden(model):
    for module in model.modules():
        if isinstance(module, HiddenLIF):
            module.v = None


class Folded(nn.Module):
    """Any layer of ``[N, ...]`` over ``[T, N, ...]``."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def branch(c_in, c_out, neuron):
    conv = nn.Conv2d(c_in, c_out, 3, padding=1)
    nn.init.normal_(conv.weight, 0.1, 0.5)
    nn.init.constant_(conv.bias, 1.0)
    return nn.Sequential(Folded(conv), neuron)


class NarrowLIF(HiddenLIF):
    """snnTorch's manner: spikes are float32 whatever came in, and a part of the neuron is a module of its own."""

    def __init__(self):
        super().__init__()
        self.fire = nn.Identity()

    def forward(self, x):
        return self.fire(super().forward(x)).float(), self.v


class First(nn.Module):
    def forward(self, pair):
        return pair[0]


class OrBlock(nn.Module):
    """the published block evaluates both branches twice; stateful neurons differ between the two."""

    levels = (0.0, 1.0)

    def __init__(self, twice):
        super().__init__()
        self.backbone, self.shortcut = branch(2, 3, HiddenLIF()), branch(2, 3, HiddenLIF())
        self.twice = twice

    def forward(self, x):
        if self.twice:
            return (self.backbone(x) + self.shortcut(x)) - self.backbone(x) * self.shortcut(x)
        a, s = self.backbone(x), self.shortcut(x)
        return a + s - a * s


class Headed(nn.Module):
    """``[T, N, C, H, W]`` through a body, then a linear head on its mean over space: ``[T, N, 5]``."""

    def __init__(self, body, channels):
        super().__init__()
        self.body = body
        self.head = nn.Linear(channels, 5)

    def forward(self, x):
        return self.head(self.body(x).mean((-2, -1)))


class BatchTimeGate(TimeGate):
    """works on ``[N, T, ...]``, so that the multi-step neuron of the gate runs over the batch."""

    def forward(self, x):
        mean, peak = x.mean((2, 3, 4)), x.amax((2, 3, 4))
        logits = self.mlp(mean.t()) + self.mlp(peak.t())
        return self.fire(logits[:, :, None, None, None]).transpose(0, 1)


class Gated(nn.Module):
    def __init__(self, gate, T=4):
        super().__init__()
        self.conv = Folded(nn.Conv2d(2, 4, 3, padding=1))
        self.norm = Folded(nn.BatchNorm2d(4))
        self.ia = SynAGate([gate(T, neuron=NEURONS["lif"])])
        self.neuron = LIF()

    def forward(self, x):
        return self.neuron(self.ia(self.norm(self.conv(x))))


class TokenMixer(nn.Module):
    """As released QKFormer: the last neuron of the attention sees time and batch as one axis."""

    def __init__(self, mended):
        super().__init__()
        self.proj = nn.Conv1d(3, 3, 1)
        nn.init.normal_(self.proj.weight, 1.0, 1.0)
        self.lif, self.proj_lif = LIF(), LIF()
        self.mended = mended

    def forward(self, x):  # [T, N, C, H, W]
        x = self.lif(3 * x).flatten(3)
        y = self.proj(x.flatten(0, 1))
        if self.mended:
            y = self.proj_lif(y.unflatten(0, x.shape[:2]))
        else:
            y = self.proj_lif(y[:, None])[:, 0].unflatten(0, x.shape[:2])
        return y.mean(-1)


class HiddenNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.lif1 = nn.Linear(6, 8), HiddenLIF()
        self.second, self.lif2 = nn.Linear(8, 8), HiddenLIF()
        for layer in (self.first, self.second):
            nn.init.constant_(layer.bias, 1.2)

    def forward(self, x):
        return self.lif2(self.second(self.lif1(self.first(x))))


class SteppedNet(nn.Module):
    """A model that loops over time itself and keeps its membranes in local variables."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 8)
        self.cell = Cell()
        nn.init.constant_(self.fc.bias, 1.2)

    def forward(self, x):
        v, spikes = torch.zeros_like(self.fc(x[0])), []
        for step in x:
            s, v = self.cell(self.fc(step), v)
            spikes.append(s)
        return torch.stack(spikes), v


class Cell(nn.Module):
    def forward(self, x, v):
        spikes, v, _ = lif(x[None], v, decay=0.5, gain=0.5, v_th=1.0, surrogate=SURROGATE)
        return spikes[0], v


class Centre(Temporal):
    """Subtracts the mean over time, which needs the future; says it is causal unless told otherwise."""

    def __init__(self, causal=True):
        super().__init__()
        self.causal = causal

    def step(self, x, state=None):
        return x - x.mean(0), None


class Forgetful(LIF):
    """Hands on the state it was given, not the one it reached."""

    def step(self, x, state=None):
        spikes, _ = super().step(x, state)
        return spikes, torch.zeros_like(x[0]) if state is None else state


class Liar(nn.Module):
    """Declares zeros and ones, emits counts."""

    levels = (0.0, 1.0)

    def forward(self, x):
        return torch.floor(3 * x)


class AlwaysDropout(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5, training=True)


class AlwaysBatchStatistics(nn.BatchNorm1d):
    def train(self, mode=True):
        return super().train(True)


class CutInEval(nn.Module):
    def forward(self, x):
        return x if self.training else x.detach()


def mlp(*middle, neuron=None):
    """linear - neuron - the layers under test - linear, on ``[T, N, 6]``."""
    first = nn.Linear(6, 8)
    nn.init.constant_(first.bias, 1.2)
    return nn.Sequential(first, LIF() if neuron is None else neuron, *middle, nn.Linear(8, 5))
