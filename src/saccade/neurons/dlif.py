"""LIF neurons whose input has a learnt weight in each step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from saccade.neurons.lif import LIF, LIFConfig
from saccade.neurons.spiking import NEURONS, NeuronConfig
from saccade.neurons.surrogate import Triangle
from saccade.neurons.temporal import State

_RELEASED = LIFConfig(tau=100.0, decay_input=False, detach_reset=False, surrogate=Triangle(1.0))  # decay 0.99


@dataclass(frozen=True)
class DLIFConfig(NeuronConfig):
    """A LIF fed by ``p_t x_t``: one learnt number ``p_t`` a step and layer, from 1, for sequences of ``T`` steps only.

    lif: the neuron, all else of which stays. Source: Ding et al. (2024), stable spiking networks, as released (decay 0.99).
    """

    T: int | None = None
    lif: LIFConfig = field(default_factory=lambda: _RELEASED)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.T is not None and self.T < 1:
            raise ValueError(f"T must be a whole number of steps, at least 1, got {self.T}")

    def build(self, *, channels: int | None = None, channel_axis: int = 2, role: str = "") -> DLIF:
        return DLIF(self, channels=channels, channel_axis=channel_axis, role=role)

    def after_product(self) -> DLIFConfig:
        return replace(self, lif=self.lif.after_product())


class DLIF(LIF):
    """See ``DLIFConfig``. Raises ValueError where it is built without T, and for a sequence of another T."""

    def __init__(
        self, config: DLIFConfig, *, channels: int | None = None, channel_axis: int = 2, role: str = ""
    ) -> None:
        if config.T is None:
            raise ValueError("dlif learns a number a step: give it the model's T, as config: {T: 8}")
        super().__init__(config.lif, channels=channels, channel_axis=channel_axis, role=role)
        self.fixed_T: int = config.T
        self.p = nn.Parameter(torch.ones(config.T))

    @property
    def config(self) -> DLIFConfig:  # type: ignore[override]
        return DLIFConfig(self.fixed_T, super().config)

    def run(
        self, x: Tensor, state: State = None, *, last: bool = True, record: bool = False
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        if len(x) != self.fixed_T:
            raise ValueError(f"a dlif neuron built for T = {self.fixed_T} got a sequence of T = {len(x)}")
        return super().run(x * self.p.view(-1, *[1] * (x.dim() - 1)), state, last=last, record=record)


NEURONS.register("dlif", DLIFConfig())
