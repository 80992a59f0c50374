"""Spike-driven self-attention 3, of Meta-SpikeFormer: ``q (k^T v)``. The function is that of ``ssa_kv``; the place differs.

Its network projects by re-parametrised convolutions (``Site.projection``) instead of linear layers, feeds it spikes instead of
integers, and adds currents behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

from saccade.layers.attention.base import ATTENTIONS
from saccade.layers.attention.ssa_kv import SSAConfig


@dataclass(frozen=True)
class SDSA3Config(SSAConfig):
    """See ``SSAConfig``. Source: Yao et al. (2024), Spike-driven Transformer V2, arXiv 2404.03663, as released."""


ATTENTIONS.register("sdsa3", SDSA3Config())
