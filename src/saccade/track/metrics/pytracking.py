"""The rule of pytracking, and as it scores LaSOT."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from saccade.track.metrics.base import (
    PIXELS,
    PROTOCOLS,
    SHARES,
    Measured,
    Protocol,
    Scores,
    above,
    held,
    mean_scores,
    within,
)
from saccade.track.results import Track

READS: dict[str, tuple[str, float | None]] = {
    "AUC": ("success", None),
    "PR": ("precision", 20.0),
    "NPR": ("normalized precision", 0.2),
    "OP50": ("success", 0.5),
    "OP75": ("success", 0.75),
}


class PyTracking(Protocol):
    """As the analysis of pytracking (Danelljan et al. 2019) scores most sets.

    The first box is the truth's; a box with a side of 0 is that of the frame before. Overlap and middles count whole pixels.
    success: overlap strictly above 0, 0.05, ..., 1; precision: distance at most 0, 1, ..., 50 pixels; normalized precision: at
    most 0, 0.01, ..., 0.5, where distances in x and y are divided by width and height of the true box. A frame whose true box
    has no area, or whose target is absent, is never a success nor within a distance; but a hit of the normalized precision,
    where pytracking calls its error -1. All frames are in the denominators; curves of sequences are averaged.
    AUC: mean of success; PR: at 20 pixels; NPR: at 0.2; OP50, OP75: success at 0.5 and 0.75.
    """

    summary = "pytracking: AUC, PR at 20 px, NPR at 0.2, OP50, OP75"
    share_of_unseen = -1.0

    def score(self, tracks: Sequence[Track]) -> Scores:
        curves = {}
        for track in tracks:
            with np.errstate(invalid="ignore"):
                if not np.isfinite(track.truth).all():
                    raise ValueError(f"{track.name}: a true box is not finite")
                invalid = ~np.isfinite(track.boxes).all(1) | (track.boxes[:, 2:] <= 0).any(1)
                unseen = ~(track.truth[:, 2:] > 0).all(1) | track.absent
            seen = Measured(track, held(track.boxes, track.truth, track.missing, invalid))
            seen.overlap[unseen], seen.distance[unseen] = -1.0, np.inf
            seen.share[unseen] = self.share_of_unseen
            total = len(track.truth)
            curves[track.name] = {
                "success": above(seen.overlap, total),
                "precision": within(seen.distance, PIXELS, total),
                "normalized precision": within(seen.share, SHARES, total),
            }
        return mean_scores(curves, READS, empty=True)


class LaSOT(PyTracking):
    """As ``PyTracking``, but that a frame in which the target is absent is no hit of the normalized precision either.

    Source: Fan et al. (2019), LaSOT, in the form that pytracking gives it.
    """

    summary = "LaSOT as pytracking scores it: AUC, PR at 20 px, NPR at 0.2, OP50, OP75"
    share_of_unseen = np.inf


PROTOCOLS.register("pytracking", PyTracking())
PROTOCOLS.register("lasot", LaSOT())
