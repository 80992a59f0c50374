"""Query-key token attention: queries say which tokens of the keys pass, ``SN(sum over channels of q) * k``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from saccade.graph.records import Counts
from saccade.layers.attention.base import ATTENTIONS, Attention, AttentionConfig, Site, masked, to_heads, to_maps
from saccade.neurons import NeuronConfig


@dataclass(frozen=True)
class QKTAConfig(AttentionConfig):
    """The sum is over the channels of a head; the neuron of the mask is at half the threshold. There are no values.

    Source: Zhou et al. (2024), QKFormer, arXiv 2403.16552, eq. 6-8.
    """

    over: ClassVar[int] = -2  # the axis of [T, N, h, C/h, L] that is summed

    def build(self, site: Site) -> QKTA:
        return QKTA(self, site)

    def ops(self, N: int, d: int, h: int) -> Counts:
        return Counts(ands=N * d, adds=N * d)

    def state(self, N: int, d: int, h: int) -> int:
        return h * N

    def output(self, neuron: NeuronConfig) -> tuple[float, ...]:
        return masked(neuron)


class QKTA(Attention):
    """See ``QKTAConfig``."""

    parts = ("q", "k")
    config: QKTAConfig

    def __init__(self, config: QKTAConfig, site: Site) -> None:
        super().__init__(config, site)
        self.q, self.k = (site.spikes(site.channels) for _ in range(2))
        self.mask = site.neuron.after_product().build(role="gate")
        self.neuron = nn.Identity()

    def mix(self, *parts: Tensor) -> Tensor:
        q, k = (to_heads(part, self.heads) for part in parts)
        return to_maps(self.mask(q.sum(self.config.over, keepdim=True)) * k, parts[0])


ATTENTIONS.register("qkta", QKTAConfig())
