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
    total = x.astype(np.float64, copy=False)
    radius = min(radius, max(x.shape))
    for axis, size in enumerate(x.shape):
        at = np.arange(size)
        last, first = np.minimum(at + radius, size - 1) + 1, np.maximum(at - radius, 0)
        running = np.insert(total.cumsum(axis), 0, 0.0, axis)
        count = (last - first).reshape((-1, 1) if axis == 0 else (1, -1))
        total = (running.take(last, axis) - running.take(first, axis)) / count
    return total.astype(x.dtype, copy=False)


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


def _lowest(dtype: np.dtype) -> float:
    return int(np.iinfo(dtype).min) if dtype.kind in "iu" else -np.inf


def _highest(dtype: np.dtype) -> float:
    return int(np.iinfo(dtype).max) if dtype.kind in "iu" else np.inf
