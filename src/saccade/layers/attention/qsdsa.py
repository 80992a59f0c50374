"""Quantised spike-driven self-attention: ``0.25 q (k^T v)`` of integer spikes, of QSD-Transformer."""

from __future__ import annotations

from dataclasses import dataclass

from saccade.layers.attention.base import ATTENTIONS
from saccade.layers.attention.ssa_kv import SSAConfig


@dataclass(frozen=True)
class QSDSAConfig(SSAConfig):
    """See ``SSAConfig``; meant for integer neurons, whose levels behind the product are twice as large.

    Unrolled into binary spikes the product is not the sum of step-wise products: see ``neurons.expanded_product``.
    Source: Qiu et al. (2025), arXiv 2501.13492, as released.
    """

    scale: float | None = 0.25


ATTENTIONS.register("qsdsa", QSDSAConfig())
