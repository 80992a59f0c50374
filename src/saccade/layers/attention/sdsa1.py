"""Spike-driven self-attention 1: a mask of channels, ``q * SN(sum over tokens of k * v)``. No product of matrices."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from saccade.graph.records import Counts
from saccade.layers.attention.base import ATTENTIONS, Attention, AttentionConfig, Site, masked, to_heads, to_maps
from saccade.neurons import NeuronConfig


@dataclass(frozen=True)
class SDSA1Config(AttentionConfig):
    """The neuron of the mask is at half the threshold.

    Source: Yao et al. (2023), Spike-driven Transformer, arXiv 2307.01694, as released. The paper names the operands in another
    order (mask of q and k on v), which is the same function under other names. Its pools for event data are left out.
    """

    def build(self, site: Site) -> SDSA1:
        return SDSA1(self, site)

    def ops(self, N: int, d: int, h: int) -> Counts:
        return Counts(ands=2 * N * d, adds=N * d)

    def state(self, N: int, d: int, h: int) -> int:
        return d

    def output(self, neuron: NeuronConfig) -> tuple[float, ...]:
        return masked(neuron)


class SDSA1(Attention):
    """See ``SDSA1Config``."""

    def __init__(self, config: SDSA1Config, site: Site) -> None:
        super().__init__(config, site)
        self.q, self.k, self.v = (site.spikes(site.channels) for _ in range(3))
        self.mask = site.neuron.after_product().build(role="gate")
        self.neuron = nn.Identity()

    def mix(self, *parts: Tensor) -> Tensor:
        q, k, v = (to_heads(part, self.heads) for part in parts)
        return to_maps(q * self.mask((k * v).sum(-1, keepdim=True)), parts[0])


ATTENTIONS.register("sdsa1", SDSA1Config())
