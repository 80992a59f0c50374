"""What every protocol of scoring trackers shares: curves of sequences, their mean, the numbers read off them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.config import Registry
from saccade.track.boxes import Boxes, centres, overlap
from saccade.track.results import Track

Reals = NDArray[np.float64]
OVERLAPS: Reals = np.arange(21) / 20  # thresholds of success
PIXELS: Reals = np.arange(51) / 1.0  # thresholds of precision
SHARES: Reals = np.arange(51) / 100  # thresholds of precision, in sizes of the true box


@dataclass(frozen=True)
class Scores:
    """numbers: by name, in percent; the first is what trackers are ordered by. curves: thresholds and rates in [0, 1] by name
    ("success": of the overlap; "precision": of the distance of middles, pixels; "normalized precision": in sizes of the true
    box). by_sequence: the same numbers of every sequence."""

    numbers: dict[str, float]
    curves: dict[str, tuple[Reals, Reals]]
    by_sequence: dict[str, dict[str, float]]


class Protocol:
    """A rule by which tracks become scores. ``summary``: in a line; ``__doc__`` is the rule."""

    summary = ""

    def score(self, tracks: Sequence[Track]) -> Scores:
        """Raises ValueError for no tracks, and for truth that the rule cannot read."""
        raise NotImplementedError


PROTOCOLS: Registry[Protocol] = Registry("protocol of tracking scores")


class Measured:
    """Overlaps and distances of a track's frames, ``[n]``, in the convention of whole pixels."""

    def __init__(self, track: Track, boxes: Boxes) -> None:
        self.overlap = overlap(boxes, track.truth, pixel=1.0)
        offset = centres(boxes, 1.0) - centres(track.truth, 1.0)
        self.distance = np.hypot(offset[:, 0], offset[:, 1])
        with np.errstate(divide="ignore", invalid="ignore"):
            share = offset / track.truth[:, 2:]
        self.share = np.nan_to_num(np.hypot(share[:, 0], share[:, 1]), nan=np.inf, posinf=np.inf)
        for values, lost in ((self.overlap, -1.0), (self.distance, np.inf), (self.share, np.inf)):
            values[track.missing | ~np.isfinite(boxes).all(1)] = lost


def held(boxes: Boxes, truth: Boxes, missing: NDArray[np.bool_], invalid: Any) -> Boxes:
    """Boxes that begin with the truth, where an invalid one (but not a missing one) is that of the frame before."""
    made = boxes.copy()
    made[0] = truth[0]
    for i in range(1, len(made)):
        if invalid[i] and not missing[i]:
            made[i] = made[i - 1]
    return made


def mean_scores(
    curves: dict[str, dict[str, tuple[Reals, Reals]]], reads: dict[str, tuple[str, float | None]], empty: bool = False
) -> Scores:
    """Scores from the curves of sequences: their mean over sequences, and the numbers of ``reads`` off it and off each.

    reads: by name a curve and the threshold where it is read (None: its mean over thresholds). empty: whether a sequence whose
    curve is 0 everywhere stays in the mean.
    """
    if not curves:
        raise ValueError("there are no sequences to score")
    kinds = next(iter(curves.values()))
    means = {}
    for kind, (at, _) in kinds.items():
        rows = np.stack([own[kind][1] for own in curves.values()])
        kept = rows[rows.sum(1) > 0] if not empty else rows
        means[kind] = (at, kept.mean(0) if len(kept) else np.zeros(len(at)))
    return Scores(_read(means, reads), means, {name: _read(own, reads) for name, own in curves.items()})


def _read(curves: dict[str, tuple[Reals, Reals]], reads: dict[str, tuple[str, float | None]]) -> dict[str, float]:
    numbers = {}
    for name, (kind, where) in reads.items():
        at, rates = curves[kind]
        numbers[name] = 100 * float(rates.mean() if where is None else rates[int(np.abs(at - where).argmin())])
    return numbers


def above(values: Reals, total: int) -> tuple[Reals, Reals]:
    """Shares of ``total`` frames whose overlap is above each threshold."""
    return OVERLAPS, (values[:, None] > OVERLAPS).sum(0) / max(total, 1)


def within(values: Reals, thresholds: Reals, total: int) -> tuple[Reals, Reals]:
    """Shares of ``total`` frames whose distance is at most each threshold."""
    return thresholds, (values[:, None] <= thresholds).sum(0) / max(total, 1)
