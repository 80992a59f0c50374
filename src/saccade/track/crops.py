"""Regions cut out of frames, and boxes in them: square, around a box, brought to one size.

Source of the sizes: Yan et al. (2021), STARK; Ye et al. (2022), OSTrack; Shan et al. (2025), SDTrack. Their programs map a box
into its region by (size - 1) / 2 and back by size / 2; here one is the exact inverse of the other (up to half a pixel away).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Region(NamedTuple):
    """Where a region lies: its upper left corner and side in pixels of the frame, and the side that it was brought to."""

    left: int
    top: int
    side: int
    size: int

    def within(self, box: Sequence[float]) -> tuple[float, float, float, float]:
        """A box of the frame (left, top, width, height) as shares of the region: middle in x and y, width, height."""
        x, y, w, h = box
        s = self.side
        return (x + w / 2 - self.left) / s, (y + h / 2 - self.top) / s, w / s, h / s

    def outside(self, box: Sequence[float]) -> tuple[float, float, float, float]:
        """The inverse of ``within``."""
        cx, cy, w, h = (value * self.side for value in box)
        return self.left + cx - w / 2, self.top + cy - h / 2, w, h


def region_of(box: Sequence[float], factor: float, size: int) -> Region:
    """The square around a box (left, top, width, height) with a side of ``factor`` geometric means of its width and height.

    Raises ValueError for a box that is empty or not finite.
    """
    x, y, w, h = (float(value) for value in box)
    if not all(math.isfinite(value) for value in (x, y, w, h)) or w <= 0 or h <= 0:
        raise ValueError(f"a box of finite numbers and positive sides is wanted, got {x:g}, {y:g}, {w:g}, {h:g}")
    side = max(math.ceil(math.sqrt(w * h) * factor), 1)
    return Region(round(x + (w - side) / 2), round(y + (h - side) / 2), side, size)


def cut(frame: Tensor, region: Region, whole: bool = False) -> Tensor:
    """The pixels ``[C, size, size]`` of a region of a frame ``[C, H, W]``: zeros outside it, linear between its pixels.

    whole: round to whole numbers, as representations that count hold them (and a picture of bytes would).
    """
    height, width = frame.shape[-2:]
    left, top = max(region.left, 0), max(region.top, 0)
    right, bottom = min(region.left + region.side, width), min(region.top + region.side, height)
    patch = torch.zeros(frame.shape[0], region.side, region.side)
    if right > left and bottom > top:
        x, y = left - region.left, top - region.top
        patch[:, y : y + bottom - top, x : x + right - left] = frame[:, top:bottom, left:right]
    if region.side != region.size:
        patch = F.interpolate(patch[None], size=(region.size, region.size), mode="bilinear")[0]
    return patch.round_() if whole else patch


def canvas(search: Tensor, template: Tensor) -> Tensor:
    """The input of a tracker ``[C, a + b, a + b]``: the search region upper left, the template lower right."""
    a, b = search.shape[-1], template.shape[-1]
    whole = torch.zeros(search.shape[0], a + b, a + b)
    whole[:, :a, :a], whole[:, a:, a:] = search, template
    return whole
