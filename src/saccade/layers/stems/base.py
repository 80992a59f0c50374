"""What all stems share; the registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from saccade.config import Config, Registry
from saccade.neurons import NeuronConfig

STEMS: Registry[StemConfig] = Registry("stem")


@dataclass(frozen=True)
class StemConfig(Config):
    """Base of the settings of stems.

    membrane: whether the stem ends in currents (for networks whose shortcuts carry currents) or in spikes and their sums.
    """

    registry: ClassVar[Registry[StemConfig]] = STEMS
    membrane: bool = False

    def build(self, inputs: int, width: int, neuron: NeuronConfig) -> Stem:
        """From maps of ``inputs`` channels to maps of ``width``, a quarter to a sixteenth of their size."""
        raise NotImplementedError


class Stem(nn.Module):
    """``[T, N, C, H, W] -> [T, N, width, H/s, W/s]``.

    first: what comes before the first neuron, so that it runs once for a picture shown for T steps; rest: all after.
    """

    def __init__(self, first: nn.Module, rest: nn.Module) -> None:
        super().__init__()
        self.first = first
        self.rest = rest

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.rest(self.first(x))
        return y
