"""Causal self-attention of spikes: token n sees tokens up to n, ``q_n sum_{m <= n} k_m^T v_m``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from saccade.graph.records import Counts
from saccade.layers.attention.base import ATTENTIONS, Site
from saccade.layers.attention.ssa_kv import SSA, SSAConfig


@dataclass(frozen=True)
class CausalSSAConfig(SSAConfig):
    """``SSAConfig`` with the sum over tokens up to the query's own, in raster order.

    chunk: tokens that are worked off together: within a chunk the scores of its tokens, before it the running ``k^T v``. So
    neither N x N scores nor a ``k^T v`` for each token are made. Source: LRF-Dyn (2026), arXiv 2603.19290, eq. 11.
    """

    chunk: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.chunk < 1:
            raise ValueError(f"chunk must be at least one token, got {self.chunk}")

    @property
    def causal_in_tokens(self) -> bool:
        return True

    def build(self, site: Site) -> CausalSSA:
        return CausalSSA(self, site)

    def ops(self, N: int, d: int, h: int) -> Counts:
        chunk = min(self.chunk, N)
        padded = -(-N // chunk) * chunk
        inside = 2 * padded * chunk * d
        if padded == chunk:
            return Counts(dense_macs=inside)
        carried = (padded // chunk) * d * (d // h)
        return Counts(dense_macs=inside + 2 * padded * d * (d // h), adds=N * d, mults=N * d, other=carried)


class CausalSSA(SSA):
    """See ``CausalSSAConfig``."""

    config: CausalSSAConfig

    def product(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        length = q.shape[-1]
        chunk = min(self.config.chunk, length)
        missing = -length % chunk
        q, k, v = (F.pad(x, (0, missing)) if missing else x for x in (q, k, v))
        q, k, v = (x.unflatten(-1, (-1, chunk)).movedim(-2, -3) for x in (q, k, v))  # [T, N, h, chunks, d, chunk]
        inside = v @ (k.transpose(-1, -2) @ q).triu()
        if length > chunk:
            inside = inside + _before(v @ k.transpose(-1, -2)) @ q
        return inside.movedim(-3, -2).flatten(-2)[..., :length]


def _before(x: Tensor) -> Tensor:
    """The sum over the chunks before each, ``[..., chunks, d, d]``."""
    summed = x.cumsum(-3)
    return torch.cat([torch.zeros_like(summed[..., :1, :, :]), summed[..., :-1, :, :]], -3)


ATTENTIONS.register("causal_ssa", CausalSSAConfig())
