"""Contrast-limited adaptive histogram equalisation with the results of MATLAB's adapthisteq (Zuiderveld 1994).

8 x 8 tiles, 256 bins, uniform target. OpenCV's and scikit-image's differ in what a clip limit means, by many grey levels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BINS = 256
TILES = 8


def clahe(image: NDArray, clip: float = 0.002, tiles: int = TILES) -> NDArray:
    """Equalise ``[H, W]`` or each channel of ``[H, W, C]``; uint8, or floats in [0, 1] (read in 256 levels).

    ``clip`` as MATLAB's ClipLimit: 0 to 1, the share of a tile that one grey level may have beyond a flat histogram.
    """
    if image.ndim == 3:
        return np.stack([clahe(image[..., c], clip, tiles) for c in range(image.shape[2])], axis=2)
    levels = image if image.dtype == np.uint8 else np.floor(np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    rows, columns = Grid(image.shape[0], tiles), Grid(image.shape[1], tiles)
    padded = np.pad(levels, (rows.padding, columns.padding), mode="symmetric")
    blocks = padded.reshape(tiles, rows.side, tiles, columns.side).transpose(0, 2, 1, 3).reshape(tiles * tiles, -1)
    counts = np.stack([np.bincount(block, minlength=BINS) for block in blocks])
    maps = mappings(counts, clip).reshape(tiles, tiles, BINS)
    (top, bottom, down), (left, right, across) = rows.blend(), columns.blend()
    down, across = down[:, None], across[None, :]
    upper = maps[top[:, None], left, levels] * (1 - across) + maps[top[:, None], right, levels] * across
    lower = maps[bottom[:, None], left, levels] * (1 - across) + maps[bottom[:, None], right, levels] * across
    mixed = upper * (1 - down) + lower * down
    return np.floor(mixed * 255 + 0.5).astype(np.uint8) if image.dtype == np.uint8 else mixed.astype(image.dtype)


class Grid:
    """One axis of the tiles: their even side, and the symmetric padding that makes them fit."""

    def __init__(self, size: int, tiles: int) -> None:
        side = -(-size // tiles)
        self.size, self.tiles, self.side = size, tiles, side + side % 2
        missing = self.side * tiles - size
        self.padding = (missing // 2, missing - missing // 2)

    def blend(self) -> tuple[NDArray, NDArray, NDArray]:
        """For each pixel the tiles before and after it and the weight of the second; beyond the outer centres one tile."""
        at = np.arange(self.size) + self.padding[0] - self.side // 2
        before = at // self.side
        weight = at / self.side - before
        return np.clip(before, 0, self.tiles - 1), np.clip(before + 1, 0, self.tiles - 1), weight


def clip_limit(pixels: int, clip: float) -> int:
    """The most pixels that a bin of a tile may have."""
    flat = -(-pixels // BINS)
    return flat + int(clip * (pixels - flat) + 0.5)


def mappings(counts: NDArray, clip: float) -> NDArray:
    """Grey-level maps ``[tiles, 256]`` into [0, 1] from histograms ``[tiles, 256]`` of tiles of one size."""
    pixels = int(counts[0].sum())
    limited = _limit(counts.astype(np.int64), clip_limit(pixels, clip))
    return np.minimum(limited.cumsum(1) / pixels, 1.0)


def _limit(h: NDArray, limit: int) -> NDArray:
    """Cut bins at the limit and deal out the excess: evenly first, then one by one at even steps, as MATLAB does."""
    excess = np.maximum(h - limit, 0).sum(1)
    share = excess // BINS
    high = h > (limit - share)[:, None]
    lifted = np.where(high, limit, h + share[:, None])
    left = excess - np.where(h > limit, 0, lifted - h).sum(1)
    start = 0
    while (left > 0).any():
        for row in np.flatnonzero(left > 0):
            step = max(BINS // int(left[row]), 1)
            bins = np.arange(start, BINS, step)
            open_bins = bins[lifted[row, bins] < limit][: left[row]]
            lifted[row, open_bins] += 1
            left[row] -= len(open_bins)
        start = (start + 1) % BINS
    return lifted
