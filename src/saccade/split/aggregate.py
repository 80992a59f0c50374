"""How adapters of several clients, of several ranks, become one.

A client's factor of weight ``w`` stands for the change ``s B A`` of a frozen weight, ``s = alpha / r`` of its own rank. The
mean that an aggregator is after is ``sum w s B A``; ``mean(B) mean(A)`` is another matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from saccade.config import Registry

AGGREGATORS: Registry[type[Aggregator]] = Registry("aggregator")


class Share(NamedTuple):
    """One client's factors of a site: A ``[r, in]``, B ``[out, r]``, and its weight in the mean."""

    a: Tensor
    b: Tensor
    weight: float


class Merged(NamedTuple):
    """The new global factors, and what is added to the frozen weight (``flora`` alone). lost: norm of the part of the mean
    that a truncation left out, as a share of the mean's."""

    a: Tensor
    b: Tensor
    change: Tensor | None = None
    lost: float = 0.0


class Aggregator:
    """How one site is merged. ``trains_a``: whether clients train A, and send it."""

    trains_a: ClassVar[bool] = True

    def merge(self, shares: Sequence[Share], old: tuple[Tensor, Tensor], alpha: float) -> Merged:
        """old: the global factors of before, whose rank the new ones have. Weights sum to 1."""
        raise NotImplementedError

    def hand_out(self, a: Tensor, b: Tensor, rank: int, alpha: float) -> tuple[Tensor, Tensor]:
        """The factors that a client of a smaller rank begins with: the first ``rank`` components at its own scale."""
        if rank == a.shape[0]:
            return a.clone(), b.clone()
        return a[:rank].clone(), b[:, :rank] * (rank / a.shape[0])


def mean_change(shares: Sequence[Share], alpha: float) -> Tensor:
    """``sum w s B A`` ``[out, in]`` in float64: what an exact average is."""
    terms = [share.weight * alpha / share.a.shape[0] * (share.b.double() @ share.a.double()) for share in shares]
    return torch.stack(terms).sum(0)


def _mean(values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    total = torch.zeros_like(values[0], dtype=torch.float64)
    for value, weight in zip(values, weights, strict=True):  # in the clients' order: a sum has one value
        total += weight * value.double()
    return total.to(values[0].dtype)


class FedIT(Aggregator):
    """Means of A and of B (Zhang et al. 2024, "Towards building the federated GPT"). Equal ranks only, and biased."""

    def merge(self, shares: Sequence[Share], old: tuple[Tensor, Tensor], alpha: float) -> Merged:
        ranks = {share.a.shape[0] for share in shares} | {old[0].shape[0]}
        if len(ranks) > 1:
            raise ValueError(f"fedit averages equal ranks only, and these are {sorted(ranks)}; use flexlora or hetlora")
        weights = [share.weight for share in shares]
        return Merged(_mean([s.a for s in shares], weights), _mean([s.b for s in shares], weights))


class HetLoRA(Aggregator):
    """As FedIT, smaller ranks padded with zeros (Cho et al. 2024) and B brought to the scale of the largest. Biased."""

    def merge(self, shares: Sequence[Share], old: tuple[Tensor, Tensor], alpha: float) -> Merged:
        rank = old[0].shape[0]
        tall, wide = [], []
        for share in shares:
            own = share.a.shape[0]
            tall.append(torch.nn.functional.pad(share.a, (0, 0, 0, rank - own)))
            wide.append(torch.nn.functional.pad(share.b * (rank / own), (0, rank - own)))
        weights = [share.weight for share in shares]
        return Merged(_mean(tall, weights), _mean(wide, weights))


class FlexLoRA(Aggregator):
    """The best fit of the true mean of each rank (Bai et al. 2024): a truncated SVD, computed on the thin factors.

    A gets orthogonal rows of the norm that LoRA draws, B carries the singular values: a direction without weight stays
    trainable.
    """

    def merge(self, shares: Sequence[Share], old: tuple[Tensor, Tensor], alpha: float) -> Merged:
        rank = old[0].shape[0]
        tall = torch.cat([share.a.double() for share in shares] + [old[0].double()])
        wide = torch.cat(
            [share.b.double() * (share.weight * alpha / share.a.shape[0]) for share in shares]
            + [torch.zeros_like(old[1], dtype=torch.float64)],
            1,
        )  # the old A spans directions for components that have no weight yet
        left, core_left = torch.linalg.qr(wide)
        right, core_right = torch.linalg.qr(tall.T)
        u, values, v = torch.linalg.svd(core_left @ core_right.T, full_matrices=False)
        norm = 1 / math.sqrt(3)
        kept = min(rank, len(values))
        a, b = torch.zeros_like(old[0]), torch.zeros_like(old[1])
        a[:kept] = ((right @ v.T[:, :kept]).T * norm).to(a.dtype)
        b[:, :kept] = ((left @ u[:, :kept]) * (values[:kept] * rank / (alpha * norm))).to(b.dtype)
        total = float(values.square().sum())
        lost = float(values[kept:].square().sum()) / total if total > 0 else 0.0
        return Merged(a, b, lost=math.sqrt(lost))


class FLoRA(Aggregator):
    """The exact mean, added to the frozen weight (Wang et al. 2024); adapters begin anew. The base changes every
    round."""

    def merge(self, shares: Sequence[Share], old: tuple[Tensor, Tensor], alpha: float) -> Merged:
        return Merged(old[0].clone(), torch.zeros_like(old[1]), mean_change(shares, alpha).to(old[1].dtype))


class FFALoRA(Aggregator):
    """A stays as it was drawn and B is averaged (Sun et al. 2024): exact, and half the adapters' bytes."""

    trains_a = False

    def merge(self, shares: Sequence[Share], old: tuple[Tensor, Tensor], alpha: float) -> Merged:
        rank = old[0].shape[0]
        wide = [
            torch.nn.functional.pad(share.b * (rank / share.b.shape[1]), (0, rank - share.b.shape[1]))
            for share in shares
        ]
        return Merged(old[0].clone(), _mean(wide, [share.weight for share in shares]))


for _name, _rule in {"fedit": FedIT, "hetlora": HetLoRA, "flexlora": FlexLoRA, "flora": FLoRA, "ffa": FFALoRA}.items():
    AGGREGATORS.register(_name, _rule)
