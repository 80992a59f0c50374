"""Saccadic spike self-attention, version 1: which tokens of the values pass, by spike counts of queries and keys.

The paper sums the rows of the rank-1 matrix ``Q' K'^T`` of spike counts by token. That is ``Q'_i`` times the count of all keys,
so the matrix is never made: keys give one gain for all tokens of a step, whatever their order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from saccade.graph.records import Counts
from saccade.layers.attention.base import ATTENTIONS, Attention, AttentionConfig, Site, emitted, to_heads, to_maps
from saccade.neurons import NeuronConfig
from saccade.neurons.saccadic import SaccadicConfig


@dataclass(frozen=True)
class SSSAConfig(AttentionConfig):
    """``S * v`` with ``S = saccadic(Q'_i * sum_j K'_j)``, counts by head as shares of the most that there can be (d/h; N d/h).

    T: steps of the model (None: the place's). v_th: where the threshold of each step starts, a product of two firing rates.
    spread, inference: see ``SaccadicConfig``. Source: SNN-ViT (2025), arXiv 2502.12677, eq. 5-9 as quoted in notes of others;
    heads and the scale of counts are our choice. The paper's "cross-entropy" would rank the queries of a key the other way.
    """

    T: int | None = None
    v_th: float = 0.02
    spread: float = 0.1
    inference: str = "exact"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.saccadic(self.T)

    def saccadic(self, T: int | None) -> SaccadicConfig:
        return SaccadicConfig(T=self.T or T, v_th=self.v_th, spread=self.spread, inference=self.inference)

    def build(self, site: Site) -> SSSA:
        return SSSA(self, site)

    def ops(self, N: int, d: int, h: int) -> Counts:
        return Counts(adds=2 * N * d, dense_macs=h * N, ands=N * d)

    def state(self, N: int, d: int, h: int) -> int:
        return h * N

    def output(self, neuron: NeuronConfig) -> tuple[float, ...]:
        return tuple(sorted({0.0, *emitted(neuron)}))


class SSSA(Attention):
    """See ``SSSAConfig``. Built for one number of steps."""

    config: SSSAConfig

    def __init__(self, config: SSSAConfig, site: Site) -> None:
        super().__init__(config, site)
        for part in self.parts:
            self.add_module(part, site.spikes(site.channels))
        self.saccade = config.saccadic(site.T).build(role="gate")
        self.neuron = nn.Identity()

    def mix(self, *parts: Tensor) -> Tensor:
        *others, v = (to_heads(part, self.heads) for part in parts)
        return to_maps(self.saccade(self.relevance(*others)) * v, parts[0])

    def relevance(self, *parts: Tensor) -> Tensor:
        """What the saccadic neuron is given, ``[T, N, h, 1, L]``, of q and k ``[T, N, h, d, L]``."""
        q, k = parts
        counted = k.sum((-2, -1), keepdim=True) @ q.sum(-2, keepdim=True)
        return counted / (math.prod(k.shape[-2:]) * q.shape[-2])


ATTENTIONS.register("sssa_v1", SSSAConfig())
