"""SynA: synergistic attention, an analog gate on the backbone (MA) and a spiking gate on the shortcut (IA).

Source: Shan et al. (2023), SynA-ResNet; its gates are those of MA-SNN, Yao et al. (2021, 2023). The published code has two
defects that these modules do not have: it evaluates each residual branch twice (see ``connect``), and its spiking gate
runs over the batch axis instead of time, so that a sample's gate depends on its neighbours in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from saccade.layers.weighted import Conv2d
from saccade.neurons import NEURONS, NeuronConfig


class _Gate(nn.Module):
    """What the three gates share: the end of the computation, a sigmoid (neuron None) or a spike.

    A gate looks at the whole sequence, so it is not causal. ``open_bias`` is where a learnable offset of the gate's
    logits starts; 0 (as published) leaves it out.
    """

    causal = False

    def __init__(self, neuron: NeuronConfig | None, open_bias: float, channels: int | None = None) -> None:
        super().__init__()
        self.neuron = None if neuron is None else neuron.build(channels=channels, role="gate")
        self.bias = nn.Parameter(torch.tensor(float(open_bias))) if open_bias else None

    def fire(self, logits: Tensor) -> Tensor:
        """``[T, N, ...] -> [T, N, ...]``: in (0, 1), or in {0, 1} from rest over axis 0."""
        if self.bias is not None:
            logits = logits + self.bias
        return torch.sigmoid(logits) if self.neuron is None else self.neuron(logits)


def _hidden(width: int, reduction: int, gate: str, unit: str) -> int:
    if reduction < 1 or width < reduction:
        raise ValueError(f"a {gate} gate with reduction {reduction} needs at least {reduction} {unit}, got {width}")
    return width // reduction


class TimeGate(_Gate):
    """One gate a step: ``[T, N, C, H, W] -> [T, N, 1, 1, 1]`` (TA of MA-SNN). T is baked into the weights.

    ``sigmoid(MLP(mean_{C,H,W} x) + MLP(max_{C,H,W} x))``, MLP = T -> T/reduction -> T, no bias, ReLU between. The spiking
    form replaces the sigmoid by a LIF that runs over time.
    """

    def __init__(self, T: int, reduction: int = 4, neuron: NeuronConfig | None = None, open_bias: float = 0.0) -> None:
        super().__init__(neuron, open_bias)
        hidden = _hidden(T, reduction, "time", "steps (T)")
        self.fixed_T = T
        self.mlp = nn.Sequential(nn.Linear(T, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, T, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] != self.fixed_T:
            raise ValueError(f"a time gate built for T = {self.fixed_T} got a sequence of T = {x.shape[0]}")
        mean, peak = x.mean((2, 3, 4)), x.amax((2, 3, 4))
        logits = self.mlp(mean.t()) + self.mlp(peak.t())
        return self.fire(logits.t()[:, :, None, None, None])


class ChannelGate(_Gate):
    """One gate a channel: ``[T, N, C, H, W] -> [1, N, C, 1, 1]`` (CA of MA-SNN).

    As ``TimeGate`` over (T, H, W), MLP = C -> C/reduction -> C. Pooling leaves no time axis, so the spiking form is a
    single LIF step from rest.
    """

    def __init__(
        self, channels: int, reduction: int, neuron: NeuronConfig | None = None, open_bias: float = 0.0
    ) -> None:
        super().__init__(neuron, open_bias, channels)
        hidden = _hidden(channels, reduction, "channel", "channels")
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, channels, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        logits = self.mlp(x.mean((0, 3, 4))) + self.mlp(x.amax((0, 3, 4)))
        return self.fire(logits[None, :, :, None, None])


class SpatialGate(_Gate):
    """One gate a position: ``[T, N, C, H, W] -> [1, N, 1, H, W]`` (SA of MA-SNN).

    Mean and maximum over T and C give two maps; conv2d(2 -> 1, kernel, no bias) gives the logits. The spiking form is a
    single LIF step from rest.
    """

    def __init__(self, kernel: int = 3, neuron: NeuronConfig | None = None, open_bias: float = 0.0) -> None:
        super().__init__(neuron, open_bias)
        self.conv = Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        maps = torch.stack((x.mean((0, 2)), x.amax((0, 2))), 1)
        return self.fire(self.conv(maps[None]))


class SynAGate(nn.Module):
    """Gates in series on ``[T, N, C, H, W]``: ``relu(g * x)``, where g is analog (MA) or a spike (IA).

    ``dims`` names the gates, applied in the order given, each on the result of the one before: "T", "C", "S" or "TCS".
    With ``trailing_relu`` (as published) a gate that is closed everywhere gets no gradient at all, since relu'(0) = 0: it
    never opens again. Without it the surrogate reaches the gate.
    """

    causal = False

    def __init__(self, gates: Sequence[nn.Module], trailing_relu: bool = True) -> None:
        super().__init__()
        self.gates = nn.ModuleList(gates)
        self.trailing_relu = trailing_relu

    def forward(self, x: Tensor) -> Tensor:
        for gate in self.gates:
            x = gate(x) * x
        return torch.relu(x) if self.trailing_relu else x


POSITIONS = ("a", "b", "c", "d")


@dataclass(frozen=True)
class SynA:
    """Which attention a network carries.

    ma, ia: the gates on the backbone and on the shortcut ("T", "C", "S", chains such as "TCS", "" for none).
    position: where MA sits: after the first (a, c) or second (b, d) convolution of every pair (a, b) or only of the first
        stage's pairs and those that own a shortcut (c, d). The letters come from the published energy scripts; a and b
        match the released files exactly, c and d are our reading.
    reduction_t: of the time MLP; channel_hidden: width of the channel MLP; kernel: of the spatial gate.
    trailing_relu, open_bias: of IA, see ``SynAGate`` and ``_Gate``; the defaults are as published.
    neuron: of the spiking gates.
    """

    ma: str = "T"
    ia: str = "T"
    position: str = "b"
    reduction_t: int = 4
    channel_hidden: int = 8
    kernel: int = 3
    trailing_relu: bool = True
    open_bias: float = 0.0
    neuron: NeuronConfig = field(default_factory=lambda: NEURONS["lif"])

    def __post_init__(self) -> None:
        if self.position not in POSITIONS:
            raise ValueError(f"position must be one of {', '.join(POSITIONS)}, got {self.position!r}")
        for name in ("ma", "ia"):
            if set(getattr(self, name)) - set("TCS"):
                raise ValueError(f"{name} names gates by T, C and S, got {getattr(self, name)!r}")

    def backbone(self, channels: int, T: int) -> nn.Module:
        """MA for ``channels``, or an identity."""
        return self._build(self.ma, channels, T, spiking=False) if self.ma else nn.Identity()

    def shortcut(self, channels: int, T: int) -> nn.Module:
        """IA for ``channels``, or an identity."""
        return self._build(self.ia, channels, T, spiking=True) if self.ia else nn.Identity()

    def on_backbone(self, conv: int, owns_shortcut: bool, first_stage: bool) -> bool:
        """Whether MA follows the ``conv``-th (0 or 1) convolution of a pair."""
        wanted = 0 if self.position in "ac" else 1
        return bool(self.ma) and conv == wanted and (self.position in "ab" or owns_shortcut or first_stage)

    def _build(self, dims: str, channels: int, T: int, spiking: bool) -> SynAGate:
        neuron, bias = (self.neuron, self.open_bias) if spiking else (None, 0.0)
        make = {
            "T": lambda: TimeGate(T, self.reduction_t, neuron, bias),
            "C": lambda: ChannelGate(channels, max(channels // self.channel_hidden, 1), neuron, bias),
            "S": lambda: SpatialGate(self.kernel, neuron, bias),
        }
        return SynAGate([make[dim]() for dim in dims], self.trailing_relu if spiking else True)
