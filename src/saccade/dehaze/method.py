"""Dehazing by scene depth ordering, step by step, in NumPy: the plain form that defines the result.

Ling, Chen, Tan, Shan and Jin (2024), "Single Image Dehazing Using Scene Depth Ordering", arXiv 2408.05683, and the authors'
MATLAB code. A hazy picture is I = J t + A (1 - t). The nearer a thing, the farther its colour is from the airlight A; so the
local maximum of |I - A| orders a scene by depth. The transmission t is a one-parameter monotone map of that order, and its
parameter is the largest that keeps all but 2 % of the pixels inside the colour cube.

Pictures are RGB ``[H, W, 3]`` in [0, 1], floating; maps are ``[H, W]``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from saccade.dehaze.windows import Array, box_mean, window_max, window_min

GREY = (0.298936, 0.587043, 0.114021)  # MATLAB's rgb2gray
SMALLEST = float(np.finfo(np.float64).eps)
GUARD = 1e-5  # keeps divisors away from zero where the airlight is 0 or 1: a black picture, a clipped sky


class DepthOrder(NamedTuple):
    """The order of a scene: ``order`` and ``weight`` (0 farthest, 1 nearest) ``[H, W]``, the order's extremes."""

    order: Array
    weight: Array
    farthest: float
    nearest: float


class Theta(NamedTuple):
    """The largest colour difference of the dehazed picture, and whether it had to be raised to that of the hazy one."""

    value: float
    clamped: bool


def airlight(image: Array, window: int = 15, fraction: float = 1e-3) -> Array:
    """Colour ``[3]`` of the haze: the median, channel by channel, of the pixels with the brightest dark channel.

    ``window``: side of the minimum filter (its size keeps small white things out); ``fraction`` of the pixels, ties included.
    """
    dark = window_min(image.min(2), window).ravel()
    count = max(1, int(fraction * dark.size))
    threshold = np.partition(dark, dark.size - count)[dark.size - count]
    return np.median(image.reshape(-1, 3)[dark >= threshold], axis=0)


def depth_order(image: Array, A: Array, window: int = 35) -> DepthOrder:
    """Order theta(x): the largest |I - A| within a window; w = (theta - min) / (max - min), 0 where all are equal."""
    distance = np.sqrt(((image - A) ** 2).sum(2))
    order = np.maximum(window_max(distance, window), SMALLEST)
    farthest, nearest = float(order.min()), float(order.max())
    spread = nearest - farthest
    weight = (order - farthest) / spread if spread > 0 else np.zeros_like(order)
    return DepthOrder(order, weight, farthest, nearest)


def cube_bound(image: Array, A: Array, low: float = 0.0, high: float = 1.0) -> Array:
    """The smallest transmission at which every channel of the recovered pixel stays in [low, high].

    max_c max((A - I) / (A - low), (I - A) / (high - A)); Meng et al. (2013) use low 20/255 and high 300/255.
    """
    below = (A - image) / np.maximum(A - low, GUARD)
    above = (image - A) / np.maximum(high - A, GUARD)
    return np.maximum(below, above).max(2)


def solve_theta(scene: DepthOrder, bound: Array, eps: float = 0.02) -> Theta:
    """The largest Theta at which a share ``eps`` of the pixels has a transmission below its ``bound``, at least max theta.

    t0 >= L is Theta <= U = (theta / L - theta (1 - w)) / w; Theta is the eps-percentile of U (MATLAB's rule, Hazen's).
    """
    order, weight = scene.order, scene.weight
    if scene.nearest == scene.farthest:  # a flat picture has no nearer and farther
        return Theta(scene.nearest, False)
    limit = (order / np.maximum(bound, SMALLEST) - order * (1 - weight)) / np.maximum(weight, SMALLEST)
    found = _percentile(limit.ravel(), eps)
    return Theta(max(found, scene.nearest), found < scene.nearest)


def transmission(scene: DepthOrder, theta: float) -> Array:
    """t0 = theta(x) / (theta(x) (1 - w) + Theta w): 1 at the farthest pixels, max theta / Theta at the nearest."""
    return scene.order / (scene.order + scene.weight * (theta - scene.order))


def least_transmission(farthest: float, nearest: float, theta: float) -> float:
    """The least t0 that any theta(x) can have, in closed form; it lies at theta(x) = sqrt(farthest * Theta)."""
    spread = nearest - farthest
    return spread / (spread + (theta**0.5 - farthest**0.5) ** 2) if spread > 0 else 1.0


def grey(image: Array) -> Array:
    """Luma ``[H, W]`` with MATLAB's weights."""
    return image @ np.asarray(GREY, image.dtype)


def guided_filter(guide: Array, source: Array, radius: int = 35, eps: float = 0.002, subsample: int = 1) -> Array:
    """``source`` smoothed along the edges of a grey ``guide`` (He, Sun and Tang 2010), windows cut off at the border.

    ``subsample``: fit the lines on every so many pixels (means over blocks), for speed (He and Sun 2015).
    """
    by = min(subsample, max(guide.shape))
    small_guide, small = _shrink(guide, by), _shrink(source, by)
    r = coarse_radius(radius, by)
    mean_i, mean_p = box_mean(small_guide, r), box_mean(small, r)
    covariance = box_mean(small_guide * small, r) - mean_i * mean_p
    variance = box_mean(small_guide * small_guide, r) - mean_i * mean_i
    slope = covariance / (variance + eps)
    offset = mean_p - slope * mean_i
    return _grow(box_mean(slope, r), guide.shape, by) * guide + _grow(box_mean(offset, r), guide.shape, by)


def coarse_radius(radius: int, by: int) -> int:
    """A radius in blocks of ``by`` pixels, halves rounded up, at least 1."""
    return max(1, (2 * radius + by) // (2 * by)) if by > 1 else radius


def recover(image: Array, t: Array, A: Array) -> Array:
    """J = (I - A) / t + A, unclipped."""
    return (image - A) / t[..., None] + A


def _percentile(values: Array, share: float) -> float:
    """Hazen's percentile without a sort: linear between order statistics, whose i-th is at (i - 1/2) / n."""
    n = values.size
    place = min(max(share * n - 0.5, 0.0), n - 1.0)
    first = int(place)
    second = min(first + 1, n - 1)
    part = np.partition(values, (first, second))
    low, high = float(part[first]), float(part[second])
    rest = place - first
    return low if rest == 0 or low == high else low + rest * (high - low)


def _shrink(x: Array, by: int) -> Array:
    """Means over blocks of ``by`` x ``by`` pixels, the last ones filled up by repeating the border."""
    if by == 1:
        return x
    height, width = x.shape
    x = np.pad(x, ((0, -height % by), (0, -width % by)), mode="edge")
    return x.reshape(x.shape[0] // by, by, x.shape[1] // by, by).mean((1, 3))


def _grow(x: Array, shape: tuple[int, ...], by: int) -> Array:
    """Back to ``shape``, linearly between the centres of blocks of ``by`` pixels."""
    if by == 1:
        return x
    for axis, size in enumerate(shape):
        place = np.clip((np.arange(size) + 0.5) / by - 0.5, 0, x.shape[axis] - 1)
        first = np.minimum(place.astype(int), max(x.shape[axis] - 2, 0))
        rest = (place - first).reshape((-1, 1) if axis == 0 else (1, -1)).astype(x.dtype)
        second = np.minimum(first + 1, x.shape[axis] - 1)
        x = np.take(x, first, axis) * (1 - rest) + np.take(x, second, axis) * rest
    return x
