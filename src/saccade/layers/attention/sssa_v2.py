"""Saccadic spike self-attention, version 2: which tokens of the values pass, by the spike counts of queries alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saccade.graph.records import Counts
from saccade.layers.attention.base import ATTENTIONS, Site
from saccade.layers.attention.sssa_v1 import SSSA, SSSAConfig


@dataclass(frozen=True)
class SSSA2Config(SSSAConfig):
    """``S * v`` with ``S = saccadic(alpha * Q'_i)``: version 1 with the count of all keys replaced by a learnt alpha > 0.

    Multiplying what is compared is dividing the threshold, as the paper writes it. The two versions agree on every input only
    if the count of keys is the same in all steps, and alpha is that. Source: SNN-ViT (2025), eq. 10-11; all its results are of
    this version. In deployment it is a threshold on the number of spikes of a token's query.
    alpha: where it starts, a firing rate.
    """

    alpha: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.alpha < math.inf:
            raise ValueError(f"alpha must be above 0 and finite, got {self.alpha}")

    def build(self, site: Site) -> SSSA2:
        return SSSA2(self, site)

    def ops(self, N: int, d: int, h: int) -> Counts:
        return Counts(adds=N * d, ands=N * d)


class SSSA2(SSSA):
    """See ``SSSA2Config``. Built for one number of steps."""

    parts = ("q", "v")
    config: SSSA2Config

    def __init__(self, config: SSSA2Config, site: Site) -> None:
        super().__init__(config, site)
        self.log_alpha = nn.Parameter(torch.tensor(math.log(config.alpha)))

    def relevance(self, *parts: Tensor) -> Tensor:
        (q,) = parts
        return q.sum(-2, keepdim=True) * (self.log_alpha.exp().to(q.dtype) / q.shape[-2])


ATTENTIONS.register("sssa_v2", SSSA2Config())
