"""The rule of GOT-10k."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from saccade.track.boxes import overlap
from saccade.track.metrics.base import PROTOCOLS, Protocol, Reals, Scores
from saccade.track.results import Track

FINE: Reals = np.linspace(0, 1, 101)


class GOT10k(Protocol):
    """As the tool kit of Huang et al. (2019): plain overlap of all frames but each sequence's first, those in which the target
    is absent left out, pooled over sequences.

    AO: the mean overlap; SR50 and SR75: the share of frames strictly above 0.5 and 0.75. Boxes are not cut to the image (the
    tool kit does that where it knows the image's size), and a box that is missing or not finite has overlap 0.
    """

    summary = "GOT-10k: AO, SR at 0.5 and 0.75, frames pooled"

    def score(self, tracks: Sequence[Track]) -> Scores:
        if not tracks:
            raise ValueError("there are no sequences to score")
        found = {}
        for track in tracks:
            boxes = np.nan_to_num(track.boxes, nan=0.0, posinf=0.0, neginf=0.0)
            values = np.where(track.missing, 0.0, overlap(np.maximum(boxes, [-np.inf, -np.inf, 0, 0]), track.truth))
            found[track.name] = values[1:][~track.absent[1:]]
        pooled = np.concatenate(list(found.values()))
        if not len(pooled):
            raise ValueError("no frame behind the first ones holds a target")
        curve = (pooled[:, None] > FINE).mean(0)
        numbers = {name: self._numbers(values) for name, values in found.items() if len(values)}
        return Scores(self._numbers(pooled), {"success": (FINE, curve)}, numbers)

    @staticmethod
    def _numbers(values: Reals) -> dict[str, float]:
        return {
            "AO": 100 * float(values.mean()),
            "SR50": 100 * float((values > 0.5).mean()),
            "SR75": 100 * float((values > 0.75).mean()),
        }


PROTOCOLS.register("got10k", GOT10k())
