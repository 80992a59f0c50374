"""LIF neurons whose spikes pass a gate that opens at random, with a probability that is learnt."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from saccade.neurons.lif import LIF, LIFConfig
from saccade.neurons.spiking import NEURONS, NeuronConfig
from saccade.neurons.temporal import State

LEAST = 0.1  # of the probabilities, as released
_EDGE = 1e-6


@dataclass(frozen=True)
class GatedLIFConfig(NeuronConfig):
    """A LIF behind which a spike passes with a learnt probability p of its channel, 0.1 .. 1, from ``start``, drawn anew for
    every step and neuron, **in training and at the test**. The potential is reset whether or not the spike passes.

    temperature: of the relaxation through which p learns: ``sigmoid((logit p + logit u) / temperature)`` with u the number
    drawn (Maddison et al. 2017). lif: the neuron, all else of which stays.
    Source: Ding et al. (2024), StoG, from notes of the released code, where p is one for every neuron (which ties a network
    to one size of picture) and a small prior acts on it; one for each channel and no prior are ours.
    """

    start: float = 1.0
    temperature: float = 0.5
    lif: LIFConfig = field(default_factory=LIFConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not LEAST <= self.start <= 1:
            raise ValueError(f"start is a probability from {LEAST} to 1, got {self.start}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")

    def build(self, *, channels: int | None = None, channel_axis: int = 2, role: str = "") -> GatedLIF:
        return GatedLIF(self, channels=channels, channel_axis=channel_axis, role=role)

    def after_product(self) -> GatedLIFConfig:
        return replace(self, lif=self.lif.after_product())


class GatedLIF(LIF):
    """See ``GatedLIFConfig``. With every probability at 1 it is the LIF, spike for spike."""

    def __init__(
        self, config: GatedLIFConfig, *, channels: int | None = None, channel_axis: int = 2, role: str = ""
    ) -> None:
        super().__init__(config.lif, channels=channels, channel_axis=channel_axis, role=role)
        self._gate = config
        self.p = nn.Parameter(torch.full((channels or 1,), config.start))

    @property
    def config(self) -> GatedLIFConfig:  # type: ignore[override]
        return replace(self._gate, lif=super().config)

    def run(
        self, x: Tensor, state: State = None, *, last: bool = True, record: bool = False
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        spikes, v, potentials = super().run(x, state, last=last, record=record)
        p = self.p.clamp(LEAST, 1)
        p = self.by_channel(p, x) if self.channels is not None else p
        drawn = torch.rand_like(spikes)
        open_ = (drawn < p).to(spikes.dtype)
        if p.requires_grad and torch.is_grad_enabled():
            inside, u = p.clamp(_EDGE, 1 - _EDGE), drawn.clamp(_EDGE, 1 - _EDGE)
            soft = torch.sigmoid((inside.logit() - u.logit()) / self._gate.temperature)
            open_ = open_ + (soft - soft.detach())
        return spikes * open_, v, potentials

    def keep_channels(self, keep: Tensor) -> None:
        super().keep_channels(keep)
        if len(self.p) > 1:
            self.p = nn.Parameter(self.p.detach()[keep.to(self.p.device)])


NEURONS.register("gated_lif", GatedLIFConfig())
