"""Filters over square windows that are cut off at the border: running extremes by doubling, means by running sums."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def window_max(x: NDArray, window: int) -> NDArray:
    """Largest value of the ``window`` x ``window`` square (odd) around every pixel of ``[H, W]``, any dtype."""
    return _doubling(x, window, np.maximum, _lowest(x.dtype))


def window_min(x: NDArray, window: int) -> NDArray:
    """Smallest value of the ``window`` x ``window`` square (odd) around every pixel of ``[H, W]``, any dtype."""
    return _doubling(x, window, np.minimum, _highest(x.dtype))


def box_mean(x: Array, radius: int) -> Array:
    """Mean over the (2 radius + 1)^2 square around every pixel of ``[H, W]``, over the pixels inside the image only."""
    sums = _window_sum(_window_sum(x.astype(np.float64, copy=False), radius, 0), radius, 1)
    height, width = x.shape
    return (sums / (_counts(height, radius)[:, None] * _counts(width, radius))).astype(x.dtype, copy=False)


def check_window(window: int) -> int:
    """The window, if it is odd and positive. Raises ValueError otherwise."""
    if window < 1 or window % 2 == 0:
        raise ValueError(f"a window is an odd number of pixels, 1 or more, not {window}")
    return window


def _doubling(x: NDArray, window: int, pick: np.ufunc, outside: float) -> NDArray:
    """Extremes of 1, 2, 4, ... neighbours; two overlapping ones of the largest power make the window."""
    radius = check_window(window) // 2
    for axis in (0, 1):
        reach = min(radius, x.shape[axis] - 1)
        pad = [(0, 0), (0, 0)]
        pad[axis] = (reach, reach)
        line = np.moveaxis(np.pad(x, pad, constant_values=outside), axis, 0)
        wide = 2 * reach + 1
        have = 1
        while 2 * have <= wide:
            line = pick(line[:-have], line[have:])
            have *= 2
        rest = wide - have
        if rest:
            line = pick(line[:-rest], line[rest:])
        x = np.moveaxis(line, 0, axis)
    return np.ascontiguousarray(x)


def _window_sum(x: NDArray, radius: int, axis: int) -> NDArray:
    size = x.shape[axis]
    running = np.cumsum(x, axis)
    at = np.arange(size)
    total = np.take(running, np.minimum(at + radius, size - 1), axis)
    before = np.maximum(at - radius, 0) - 1
    first = int(np.searchsorted(before, 0))
    if first < size:
        part = [slice(None)] * 2
        part[axis] = slice(first, None)
        total[tuple(part)] -= np.take(running, before[first:], axis)
    return total


def _counts(size: int, radius: int) -> NDArray:
    at = np.arange(size)
    return (np.minimum(at + radius, size - 1) - np.maximum(at - radius, 0) + 1).astype(np.float64)


def _lowest(dtype: np.dtype) -> float:
    return int(np.iinfo(dtype).min) if dtype.kind in "iu" else -np.inf


def _highest(dtype: np.dtype) -> float:
    return int(np.iinfo(dtype).max) if dtype.kind in "iu" else np.inf
