"""What all neurons share: the values they emit, their channels, their role in reports, and the record of their potentials."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from saccade.config import Config, Registry
from saccade.neurons.temporal import Temporal

NEURONS: Registry[NeuronConfig] = Registry("neuron", "`saccade neurons`")


@dataclass(frozen=True)
class NeuronConfig(Config):
    """Base of the settings of neurons: frozen, chosen by name in recipes, kept in model files. A preset is a named one."""

    registry: ClassVar[Registry[NeuronConfig]] = NEURONS

    def build(self, *, channels: int | None = None, channel_axis: int = 2, role: str = "") -> Spiking:
        """A layer of these neurons.

        channels: of its input, on ``channel_axis`` of ``[T, N, ...]`` (2 for maps, -1 for tokens); None where it has none.
        role: "gate" or "shortcut", for reports.
        """
        raise NotImplementedError

    def after_product(self) -> NeuronConfig:
        """The neuron that fires on a product of spikes in an attention: this one, unless it overrides."""
        return self


class Spiking(Temporal):
    """Base of the neurons, ``[T, N, ...] -> [T, N, ...]`` of the values in ``levels``.

    ``config`` builds the like of it; ``role`` marks a neuron as a "gate" or a "shortcut" for reports. A subclass hands the
    potentials that it compares with its threshold to ``note`` while ``recorded`` is true, and overrides ``keep_channels``
    where it holds something for each channel.
    """

    levels: tuple[float, ...] = (0.0, 1.0)
    config: NeuronConfig

    def __init__(self, *, channels: int | None = None, channel_axis: int = 2, role: str = "") -> None:
        super().__init__()
        self.channels, self.channel_axis, self.role = channels, channel_axis, role
        self._recorder: list[Tensor] | None = None

    def extra_repr(self) -> str:
        parts = [repr(self.config)]
        parts += [f"role={self.role!r}"] if self.role else []
        return ", ".join(parts)

    @property
    def recorded(self) -> bool:
        return self._recorder is not None

    def note(self, potentials: Tensor | None) -> None:
        if self._recorder is not None and potentials is not None:
            self._recorder.append(potentials)

    def keep_channels(self, keep: Tensor) -> None:
        """Follow a layer that loses channels: those of the indices ``keep`` stay."""
        if self.channels is not None:
            self.channels = len(keep)

    def by_channel(self, values: Tensor, x: Tensor) -> Tensor:
        """Values ``[C]`` shaped to broadcast against a step of ``x``. Raises ValueError if the input has other channels."""
        axis = self.channel_axis + (x.dim() if self.channel_axis < 0 else 0)
        if axis < 2 or x.dim() <= axis or x.shape[axis] != len(values):
            raise ValueError(
                f"values of {len(values)} channels do not fit axis {self.channel_axis} of an input {list(x.shape)}"
            )
        return values.view([-1] + [1] * (x.dim() - axis - 1))


@contextlib.contextmanager
def recording(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Collect the potentials before reset, ``[T, N, ...]``, of every neuron of ``model`` by module path, one entry a call.

    >>> with recording(model) as potentials:
    ...     model(x)
    """
    layers = {path: module for path, module in model.named_modules() if isinstance(module, Spiking)}
    potentials: dict[str, list[Tensor]] = {path: [] for path in layers}
    try:
        for path, layer in layers.items():
            layer._recorder = potentials[path]
        yield potentials
    finally:
        for layer in layers.values():
            layer._recorder = None
