"""The rule of FE108's published figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from saccade.track.metrics.base import PIXELS, PROTOCOLS, Measured, Protocol, Scores, above, held, mean_scores, within
from saccade.track.results import Track


class FE108(Protocol):
    """As the MATLAB programs of Zhang et al. (2021) that scored FE108 and SDTrack (Shan et al. 2025), with their quirk.

    1. The first box is the truth's; a box that is not finite or has no area is that of the frame before.
    2. Overlap and middles count whole pixels (a box ends with its last one).
    3. Frames in which the target is absent are in no numerator, but in the denominator.
    4. The quirk: a frame whose true box has *any* number at or below 0, so also one that touches the left or upper edge, has
       overlap -1 (never a success) and distance -1 (always a hit). 619 of the 59,688 frames of FE108's test set are such.
    5. success: overlap strictly above 0, 0.05, ..., 1; precision: distance at most 0, 1, ..., 50 pixels; of all frames.
    6. The curves of sequences are averaged, without those that are 0 everywhere. AUC is the mean of the success curve, PR
       the precision at 20 pixels.
    """

    summary = "FE108's MATLAB rule, quirk included: AUC, PR at 20 px"

    def score(self, tracks: Sequence[Track]) -> Scores:
        curves = {}
        for track in tracks:
            with np.errstate(invalid="ignore"):
                invalid = ~np.isfinite(track.boxes).all(1) | (track.boxes[:, 2:] <= 0).any(1)
                odd = ~(track.truth > 0).all(1)
            seen = Measured(track, held(track.boxes, track.truth, track.missing, invalid))
            for values in (seen.overlap, seen.distance):
                values[odd] = -1.0
            there, total = ~track.absent, len(track.truth)
            curves[track.name] = {
                "success": above(seen.overlap[there], total),
                "precision": within(seen.distance[there], PIXELS, total),
            }
        return mean_scores(curves, {"AUC": ("success", None), "PR": ("precision", 20.0)})


PROTOCOLS.register("fe108", FE108())
