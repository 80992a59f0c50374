"""How near spikes of queries and keys are to each other, in the three ways that saccadic attention is argued from."""

from __future__ import annotations

import torch
from torch import Tensor

KINDS = ("dot", "ce", "ce_spikes", "croatt")


def relevance(q: Tensor, k: Tensor, kind: str = "dot") -> Tensor:
    """The relevance of every key for every query, ``[..., N, M]``, of spikes q ``[..., d, N]`` and k ``[..., d, M]``.

    With p the share of a token's d channels that fire:

    * "dot": ``sum_c q_c k_c``, how many channels fire in both;
    * "ce": ``p_q log p_k + (1 - p_q) log(1 - p_k)``, the negative cross-entropy of two Bernoulli distributions;
    * "ce_spikes": ``p_q log p_k``, the same without the term of silent channels;
    * "croatt": ``(sum_c q_c) (sum_c k_c)``, where the logarithm too is left out: of rank 1.

    For one query the last two rank the keys alike; for one key they rank the queries the other way round, since ``log p_k`` is
    negative. Under a logarithm p_k is kept half a spike from 0 and 1. Source: SNN-ViT (2025), arXiv 2502.12677, eq. 5-7 as
    quoted in notes of others. For analysis: no attention makes this matrix. Raises ValueError for another kind, or shapes that
    do not fit.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if q.dim() < 2 or q.shape[:-1] != k.shape[:-1]:
        raise ValueError(f"q [..., d, N] and k [..., d, M] do not fit: {list(q.shape)} and {list(k.shape)}")
    if kind == "dot":
        return q.transpose(-1, -2) @ k
    d = q.shape[-2]
    queries, keys = q.sum(-2).unsqueeze(-1), k.sum(-2).unsqueeze(-2)
    if kind == "croatt":
        return queries * keys
    fires = queries / d
    rate = (keys / d).clamp(0.5 / d, 1 - 0.5 / d)
    spikes: Tensor = fires * rate.log()
    return spikes if kind == "ce_spikes" else spikes + (1 - fires) * torch.log1p(-rate)
