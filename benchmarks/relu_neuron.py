"""What an ANN has in the place of neurons, as a plugin: it lets the trainer train the ANN twins of ``widths.py``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from saccade.neurons.spiking import NEURONS, NeuronConfig, Spiking


@dataclass(frozen=True)
class ReluConfig(NeuronConfig):
    """The rectifier."""

    def build(self, *, channels: int | None = None, channel_axis: int = 2, role: str = "") -> Relu:
        return Relu(channels=channels, channel_axis=channel_axis, role=role)


class Relu(Spiking):
    levels = ()
    config = ReluConfig()

    def step(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return torch.relu(x), state

    def state_spec(self, shape: tuple[int, ...]) -> dict[str, Any]:
        return {}


NEURONS.register("relu", ReluConfig())
