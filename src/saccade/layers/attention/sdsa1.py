"""Spike-driven self-attention 1: a mask of channels, ``q * SN(sum over tokens of k * v)``. No product of matrices."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from saccade.graph.records import Counts
from saccade.layers.attention.base import ATTENTIONS, Attention, AttentionConfig, Site, masked, to_heads, to_maps
from saccade.layers.pooling import MaxPool2d
from saccade.neurons import NeuronConfig


@dataclass(frozen=True)
class SDSA1Config(AttentionConfig):
    """The neuron of the mask is at half the threshold.

    pool: whether keys, values, their products and the result are the maxima of 3x3 places, as for event data in the released
    code. (There the last two are taken in another layout, over neighbouring channels and tokens in raster order, which mixes
    channels and the ends of rows; here all four are taken in space.)

    Source: Yao et al. (2023), Spike-driven Transformer, arXiv 2307.01694, as released. The paper names the operands in another
    order (mask of q and k on v), which is the same function under other names.
    """

    pool: bool = False

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
        self.around = nn.ModuleList(MaxPool2d(3, 1, 1) if config.pool else nn.Identity() for _ in range(4))

    def mix(self, *parts: Tensor) -> Tensor:
        q, k, v = parts
        of_keys, of_values, of_products, of_result = self.around
        products = of_products(of_keys(k) * of_values(v))
        mask = self.mask(to_heads(products, self.heads).sum(-1, keepdim=True))
        return of_result(to_maps(to_heads(q, self.heads) * mask, q))


ATTENTIONS.register("sdsa1", SDSA1Config())
