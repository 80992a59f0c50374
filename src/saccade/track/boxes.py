"""Boxes ``[..., 4]`` as left, top, width and height in pixels, the form in which trackers are given and give them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Boxes = NDArray[np.float64]
SMALLEST = 10.0  # pixels of a side of a box that a tracker gives (Ye et al. 2022, OSTrack)


def overlap(a: ArrayLike, b: ArrayLike, pixel: float = 0.0) -> Boxes:
    """Intersection over union of boxes, broadcast; 0 where neither has an area.

    pixel: 1 for the convention of the MATLAB tool kits, where a box ends with its last pixel (right = x + w - 1) and an extent
    is (right - left + 1): the same number but for boxes that touch.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    inner = np.ones(np.broadcast_shapes(a.shape, b.shape)[:-1])
    for axis in (0, 1):
        low = np.maximum(a[..., axis], b[..., axis])
        high = np.minimum(a[..., axis] + a[..., axis + 2] - pixel, b[..., axis] + b[..., axis + 2] - pixel)
        inner = inner * np.maximum(high - low + pixel, 0)
    union = a[..., 2] * a[..., 3] + b[..., 2] * b[..., 3] - inner
    return np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)


def centres(boxes: ArrayLike, pixel: float = 0.0) -> Boxes:
    """Middles ``[..., 2]``, x and y. pixel: as in ``overlap``."""
    given = np.asarray(boxes, np.float64)
    middle: Boxes = given[..., :2] + (given[..., 2:] - pixel) / 2
    return middle


def clipped(box: Sequence[float], height: int, width: int, margin: float = SMALLEST) -> tuple[float, ...]:
    """A box cut to an image, at least ``margin`` pixels of it a side (less where the image is smaller).

    Without this a wrong size makes the next region to search larger, and so on without end. Source: Ye et al. (2022), OSTrack.
    """
    x, y, w, h = (float(value) for value in box)
    sides = []
    for low, length, room in ((x, w, width), (y, h, height)):
        least = min(margin, room)
        start = min(max(low, 0.0), room - least)
        end = max(min(max(low + length, least), float(room)), start + least)
        sides.append((start, end - start))
    return sides[0][0], sides[1][0], sides[0][1], sides[1][1]


def checked_box(box: Any, height: int, width: int) -> tuple[float, ...]:
    """A box to begin with, cut to the image. Raises ValueError for one that is no box, is empty, or lies outside."""
    try:
        x, y, w, h = (float(value) for value in box)
    except (TypeError, ValueError):
        raise ValueError(f"a box is four numbers, left, top, width and height in pixels, got {box!r}") from None
    if not all(math.isfinite(value) for value in (x, y, w, h)):
        raise ValueError(f"a box is of finite numbers, got {x:g}, {y:g}, {w:g}, {h:g}")
    if w <= 0 or h <= 0:
        raise ValueError(f"the box is empty: width {w:g}, height {h:g}; both are above 0 pixels")
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise ValueError(
            f"the box from ({x:g}, {y:g}) to ({x + w:g}, {y + h:g}) lies outside the sensor of {width} x {height} pixels"
        )
    left, top = max(x, 0.0), max(y, 0.0)
    return left, top, min(x + w, float(width)) - left, min(y + h, float(height)) - top
