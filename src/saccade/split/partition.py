"""Text without labels, shared among clients that differ in the lengths of what they hold.

Samples fall into classes by length, and a Dirichlet distribution says how the clients share them (Shan et al. 2026; for
lengths and counts as two axes of difference, Zhang et al. 2025): a small ``alpha`` makes clients of one kind of text each, an
infinite one makes them alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def length_dirichlet(
    lengths: Sequence[int],
    clients: int,
    alpha: float,
    classes: int = 10,
    mode: str = "per_class",
    seed: int = 0,
    min_size: int = 1,
    tries: int = 1000,
) -> list[list[int]]:
    """Which samples each client gets: disjoint lists of indices, together all of them.

    lengths: tokens of each sample. classes: groups of equal size by length. mode: ``per_class`` draws for every class how the
    clients share it, so that clients differ in number too; ``per_client`` draws for every client how it mixes the classes,
    at equal numbers of samples. min_size: fewest samples of a client; draws are repeated until it holds.

    Raises ValueError for settings that no draw can meet.
    """
    count = len(lengths)
    if clients < 1 or count < clients * max(min_size, 1):
        raise ValueError(f"{count} samples are too few for {clients} clients of at least {max(min_size, 1)}")
    if not alpha > 0 or classes < 1:
        raise ValueError(f"alpha is positive and classes at least 1, got {alpha:g} and {classes}")
    if mode not in ("per_class", "per_client"):
        raise ValueError(f"mode is per_class or per_client, got {mode!r}")
    rng = np.random.default_rng(seed)
    order = np.argsort(np.asarray(lengths), kind="stable")
    groups = [rng.permutation(group) for group in np.array_split(order, min(classes, count))]
    for _ in range(tries):
        parts = (
            _per_class(groups, clients, alpha, rng) if mode == "per_class" else _per_client(groups, clients, alpha, rng)
        )
        if min(len(part) for part in parts) >= min_size:
            return [sorted(int(i) for i in part) for part in parts]
    raise ValueError(
        f"no draw of {tries} gave every client {min_size} samples at alpha {alpha:g}; lower min_size or raise alpha"
    )


def _shares(alpha: float, count: int, rng: np.random.Generator) -> np.ndarray:
    return np.full(count, 1 / count) if math.isinf(alpha) else rng.dirichlet(np.full(count, alpha))


def _whole(shares: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers nearest to the shares of a total, by largest remainders: their sum is the total."""
    exact = shares / shares.sum() * total
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1
    return counts


def _per_class(groups: list[np.ndarray], clients: int, alpha: float, rng: np.random.Generator) -> list[list[int]]:
    parts: list[list[int]] = [[] for _ in range(clients)]
    for group in groups:
        shares = _shares(alpha, clients, rng)
        turned = rng.permutation(clients)  # equal remainders go to somebody else in every class
        for client, piece in zip(
            turned, np.split(group, np.cumsum(_whole(shares[turned], len(group)))[:-1]), strict=True
        ):
            parts[client] += list(piece)
    return parts


def _per_client(groups: list[np.ndarray], clients: int, alpha: float, rng: np.random.Generator) -> list[list[int]]:
    left = [list(group) for group in groups]
    sizes = _whole(np.ones(clients), sum(map(len, left)))
    parts = []
    for size in sizes:
        mix = _shares(alpha, len(left), rng)
        part: list[int] = []
        while len(part) < size:  # a class that is used up passes its share on
            open_classes = np.array([bool(group) for group in left])
            odds = np.where(open_classes, mix + 1e-12, 0)
            for group, wanted in zip(left, _whole(odds, size - len(part)), strict=True):
                part += [group.pop() for _ in range(min(wanted, len(group)))]
        parts.append(part)
    return parts


def partition_report(lengths: Sequence[int], parts: Sequence[Sequence[int]], classes: int = 10) -> dict[str, Any]:
    """How different the clients are: samples, tokens and mean length of each, and the Jensen-Shannon divergence
    (bits, 0 to 1) of its length classes from those of all; their mean weighs every client alike."""
    values = np.asarray(lengths)
    place = np.empty(len(values), int)
    for index, group in enumerate(np.array_split(np.argsort(values, kind="stable"), min(classes, len(values)))):
        place[group] = index
    bins = place.max() + 1
    whole = np.bincount(place, minlength=bins) / len(values)
    rows = []
    for part in parts:
        own = np.bincount(place[list(part)], minlength=bins) / max(len(part), 1)
        rows.append(
            {
                "samples": len(part),
                "tokens": int(values[list(part)].sum()),
                "mean_length": float(values[list(part)].mean()) if len(part) else 0.0,
                "divergence_bits": _divergence(own, whole),
            }
        )
    return {"clients": rows, "mean_divergence_bits": float(np.mean([row["divergence_bits"] for row in rows]))}


def _divergence(p: np.ndarray, q: np.ndarray) -> float:
    middle = (p + q) / 2

    def relative(x: np.ndarray) -> float:
        some = x > 0
        return float((x[some] * np.log2(x[some] / middle[some])).sum())

    return max(0.0, (relative(p) + relative(q)) / 2)
