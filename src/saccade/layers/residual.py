"""Ways to join a backbone and a shortcut, and the blocks that do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from saccade.config import Registry
from saccade.layers.norms import BatchNorm2d
from saccade.layers.weighted import Conv2d


@dataclass(frozen=True)
class Connection:
    """How backbone spikes ``a`` and shortcut spikes ``s``, ``[T, N, ...]`` in {0, 1}, become one tensor.

    binary: the result is in {0, 1} again. removable: with a silent shortcut the result is the backbone, so that it can go.
    needs_both: the result fires only where both do.
    """

    name: str
    join: Callable[[Tensor, Tensor], Tensor] = field(repr=False)
    binary: bool = True
    removable: bool = False
    needs_both: bool = False

    def __call__(self, a: Tensor, s: Tensor) -> Tensor:
        return self.join(a, s)


CONNECTIONS: Registry[Connection] = Registry("residual connection")
for _connection in (
    # Fang et al. (2021), SEW-ResNet, table 1.
    Connection("add", lambda a, s: a + s, binary=False, removable=True),
    Connection("and", lambda a, s: a * s, needs_both=True),
    Connection("iand", lambda a, s: (1 - a) * s),
    # Shan et al. (2023), SynA-ResNet: spike-driven, dO/da = 1 - s, dO/ds = 1 - a. Their code evaluates
    # ``(b(x) + s(x)) - b(x) * s(x)`` with every branch called twice; as its neurons keep state between calls, the two values
    # of a differ and its "binary" output reaches 2. Here each branch is evaluated once and passed in.
    Connection("or", lambda a, s: a + s - a * s, removable=True),
):
    CONNECTIONS.register(_connection.name, _connection)


class ResidualBlock(nn.Module):
    """``connection(backbone(x), shortcut(x))`` on spikes ``[T, N, ...]``, or the backbone alone (shortcut None)."""

    def __init__(self, backbone: nn.Module, shortcut: nn.Module | None, connection: Connection | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.shortcut = shortcut
        self.connection = connection

    def forward(self, x: Tensor) -> Tensor:
        a: Tensor = self.backbone(x)
        if self.shortcut is None or self.connection is None:
            return a
        return self.connection(a, self.shortcut(x))

    @property
    def joins(self) -> bool:
        """Whether there is something to join."""
        return self.shortcut is not None and self.connection is not None


class MembraneBlock(nn.Module):
    """``residual(x) + shortcut(x)`` on currents: no neuron after the sum. Source: Hu et al. (2021), MS-ResNet."""

    def __init__(self, residual: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.residual = residual
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.residual(x) + self.shortcut(x)
        return y


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
