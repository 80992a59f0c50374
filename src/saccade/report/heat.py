"""Maps of weights over a picture, as colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

COLD, WARM = np.array([20, 24, 82]), np.array([255, 196, 0])  # of nothing, and of the largest weight
GAP, LINE = 6, 14  # pixels


def heat(pixels: np.ndarray, weights: np.ndarray, side: int = 160, most: float | None = None) -> np.ndarray:
    """A picture uint8 ``[C, H, W]`` under weights ``[h, w]``, uint8 ``[3, side, side]``; warmest: ``most``, or the largest."""
    most = float(weights.max()) if most is None else most
    share = weights.clip(0, most) / most if most > 0 else np.zeros_like(weights)
    share = enlarged(share[None], side)
    grey = enlarged(pixels, side).astype(np.float64).mean(0, keepdims=True) / 255
    colour = COLD[:, None, None] * (1 - share) + WARM[:, None, None] * share
    mixed: np.ndarray = (colour * (0.35 + 0.65 * grey)).round().astype(np.uint8)
    return mixed


def enlarged(maps: np.ndarray, side: int) -> np.ndarray:
    """Maps ``[C, h, w]`` brought to ``[C, side, side]``, each place repeated."""
    rows, columns = (np.arange(side) * size // side for size in maps.shape[1:])
    return maps[:, rows[:, None], columns[None, :]]


def write_sheet(file: Path, pixels: np.ndarray, rows: Mapping[str, Sequence[np.ndarray]], side: int = 160) -> None:
    """A PNG: a line of pictures for each name, the picture itself ``[C, H, W]`` and then its maps ``[h, w]`` over it."""
    from PIL import Image, ImageDraw

    across = 1 + max(map(len, rows.values()))
    size = across * (side + GAP) + GAP, len(rows) * (side + GAP + LINE) + GAP
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    plain = enlarged(pixels if len(pixels) == 3 else pixels[:1].repeat(3, 0), side)
    for number, (name, maps) in enumerate(rows.items()):
        top = GAP + number * (side + GAP + LINE)
        draw.text((GAP, top), name, fill="black")
        for column, drawn in enumerate([plain, *(heat(pixels, weights, side) for weights in maps)]):
            sheet.paste(Image.fromarray(drawn.transpose(1, 2, 0)), (GAP + column * (side + GAP), top + LINE))
    sheet.save(file)
