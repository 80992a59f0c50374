"""Events as pictures for people: on in blue, off in red, on white."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OFF, ON = np.array([200.0, 30.0, 45.0]), np.array([25.0, 80.0, 200.0])
SMALLEST = 240  # pixels of the shorter side of a picture
GAP = 8


def painted(counts: NDArray[np.float32], full: float) -> NDArray[np.uint8]:
    """Counts ``[2, H, W]`` (off, on) as uint8 ``[H, W, 3]``: white without events, the polarity's colour from ``full`` on.

    Where both are, their colours mix. Small sensors get larger pixels.
    """
    strength = np.minimum(np.sqrt(counts / max(full, 1.0)), 1.0)[..., None]
    white = 255.0
    light = (white - strength[0] * (white - OFF)) * (white - strength[1] * (white - ON)) / white
    by = max(1, -(-SMALLEST // min(counts.shape[1:])))
    return light.round().astype(np.uint8).repeat(by, 0).repeat(by, 1)


def full_scale(counts: NDArray[np.float32]) -> float:
    """The count that most active pixels (99 %) stay below, for ``painted``; 1 without events."""
    active = counts[counts > 0]
    return float(np.quantile(active, 0.99)) if active.size else 1.0


def sheet(pictures: list[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    """Pictures of one size side by side, in rows, on grey."""
    height, width, _ = pictures[0].shape
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    whole = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), 208, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = GAP + i // columns * (height + GAP), GAP + i % columns * (width + GAP)
        whole[y : y + height, x : x + width] = picture
    return whole
