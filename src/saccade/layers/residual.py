"""Ways to join a backbone and a shortcut."""

from __future__ import annotations

from torch import Tensor, nn

from saccade.layers.fold import BatchNorm2d, Conv2d

CONNECTIONS = ("add", "and", "iand", "or")


def connect(a: Tensor, s: Tensor, kind: str) -> Tensor:
    """Join backbone spikes ``a`` and shortcut spikes ``s``, both of shape ``[T, N, ...]`` and in {0, 1}.

    ======  ==============  =========  ===================================================
    kind    output          values     source
    ======  ==============  =========  ===================================================
    add     ``a + s``       0, 1, 2    SEW-ResNet, Fang et al. (2021) table 1
    and     ``a * s``       0, 1       the same
    iand    ``(1 - a) * s`` 0, 1       the same
    or      ``a + s - a*s`` 0, 1       SynA-ResNet, Shan et al. (2023): spike-driven, dO/da = 1 - s, dO/ds = 1 - a
    ======  ==============  =========  ===================================================

    The published code of SynA-ResNet evaluates ``(b(x) + s(x)) - b(x) * s(x)`` with every branch called twice; as its
    neurons keep state between calls, the two values of a differ and its "binary" output reaches 2. Here each branch is
    evaluated once and passed in.
    """
    if kind == "or":
        return a + s - a * s
    if kind == "add":
        return a + s
    if kind == "iand":
        return (1 - a) * s
    if kind == "and":
        return a * s
    raise ValueError(f"unknown residual connection {kind!r}; known: {', '.join(CONNECTIONS)}")


class SpikingShortcut(nn.Module):
    """conv1x1(stride) - BN - gate - neuron: ``[T, N, C_in, H, W]`` to spikes ``[T, N, C_out, H/stride, W/stride]``.

    The projection of SEW-ResNet (no gate) and of SynA-ResNet (gate = IA); the unit that natural pruning removes.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, gate: nn.Module, neuron: nn.Module) -> None:
        super().__init__()
        self.conv = Conv2d(c_in, c_out, 1, stride, bias=False)
        self.norm = BatchNorm2d(c_out)
        self.gate = gate
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        spikes: Tensor = self.neuron(self.gate(self.norm(self.conv(x))))
        return spikes
