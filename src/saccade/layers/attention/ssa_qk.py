"""Spiking self-attention, queries and keys first: ``(q k^T) v``, the N x N form. For integers it equals ``ssa_kv`` exactly."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from saccade.graph.records import Counts
from saccade.layers.attention.base import ATTENTIONS, Site
from saccade.layers.attention.ssa_kv import SSA, SSAConfig


@dataclass(frozen=True)
class QueryFirstSSAConfig(SSAConfig):
    """As ``SSAConfig``, with the scores of every pair of tokens made first. Cheaper where there are fewer tokens than d/h."""

    def build(self, site: Site) -> QueryFirstSSA:
        return QueryFirstSSA(self, site)

    def ops(self, N: int, d: int, h: int) -> Counts:
        return Counts(dense_macs=N * N * d * (1 + self.value_ratio))

    def state(self, N: int, d: int, h: int) -> int:
        return h * N * N


class QueryFirstSSA(SSA):
    """See ``QueryFirstSSAConfig``."""

    def product(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return v @ (k.transpose(-1, -2) @ q)


ATTENTIONS.register("ssa_qk", QueryFirstSSAConfig())
