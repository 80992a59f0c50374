"""What all neurons share: the values they emit, their role in reports, and the record of their potentials."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn

from saccade.neurons.temporal import Temporal


class Spiking(Temporal):
    """Base of the neurons, ``[T, N, ...] -> [T, N, ...]`` of the values in ``levels``.

    ``role`` marks a neuron as a "gate" or a "shortcut" for reports. A subclass hands the potentials that it compares with
    its threshold to ``note`` while ``recorded`` is true.
    """

    levels: tuple[float, ...] = (0.0, 1.0)

    def __init__(self, role: str = "") -> None:
        super().__init__()
        self.role = role
        self._recorder: list[Tensor] | None = None

    @property
    def recorded(self) -> bool:
        return self._recorder is not None

    def note(self, potentials: Tensor | None) -> None:
        if self._recorder is not None and potentials is not None:
            self._recorder.append(potentials)


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
