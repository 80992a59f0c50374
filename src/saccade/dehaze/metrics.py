"""How good a dehazed picture is: against a reference, without one, and over time.

PSNR, SSIM and CIEDE2000 are scikit-image's. Pictures are RGB ``[H, W, 3]``, uint8 or floating in [0, 1].
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saccade.dehaze.method import depth_order, grey
from saccade.dehaze.windows import Array, box_mean
from saccade.optional import need

VISIBLE = 0.05  # contrast from which an edge can be seen (CIE 17.4)


class EdgeGain(NamedTuple):
    """e, r and sigma of Hautière et al. (2008)."""

    new_edges: float
    gradient_ratio: float
    saturated: float


def psnr(image: NDArray, reference: NDArray) -> float:
    """Peak signal-to-noise ratio in dB; infinite for equal pictures."""
    error = float(((_unit(image) - _unit(reference)) ** 2).mean())
    return float("inf") if error == 0 else float(-10 * np.log10(error))


def ssim(image: NDArray, reference: NDArray) -> float:
    """Structural similarity (Wang et al. 2004): Gaussian 11 x 11, sigma 1.5, mean over channels.

    Raises ValueError for a picture smaller than that.
    """
    if min(image.shape[:2]) < 11:
        raise ValueError(f"SSIM has windows of 11 x 11 pixels; the picture is {image.shape[1]} x {image.shape[0]}")
    metrics = need("skimage.metrics", "dehaze")
    return float(
        metrics.structural_similarity(
            _unit(image),
            _unit(reference),
            channel_axis=2,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def ciede2000(image: NDArray, reference: NDArray) -> float:
    """Mean colour difference CIEDE2000 (Sharma et al. 2005), in units of just noticeable differences."""
    color = need("skimage.color", "dehaze")
    return float(color.deltaE_ciede2000(color.rgb2lab(_unit(image)), color.rgb2lab(_unit(reference))).mean())


def order_spearman(hazy: NDArray, dehazed: NDArray, A: Array, window: int = 35) -> float:
    """Rank correlation of the depth orders of both pictures under one airlight ``[3]``: 1 where dehazing kept the order."""
    stats = need("scipy.stats", "dehaze")
    before = depth_order(_unit(hazy), A, window).order.ravel()
    after = depth_order(_unit(dehazed), A, window).order.ravel()
    if before.min() == before.max() or after.min() == after.max():
        return 1.0 if before.min() == before.max() and after.min() == after.max() else 0.0
    return float(stats.spearmanr(before, after).statistic)


def e_r_sigma(hazy: NDArray, dehazed: NDArray) -> EdgeGain:
    """Blind contrast gain (Hautière, Tarel, Aubert and Dumont 2008).

    e: new visible edges over those there were; r: geometric mean of the ratios of gradients on the visible edges of the
    result; sigma: share of pixels that became black or white. An edge is visible where the local contrast
    (gradient over the mean of the 7 x 7 window) reaches 5 %; e is infinite where no edge was visible before.
    """
    before, after = grey(_unit(hazy)), grey(_unit(dehazed))
    gradients = _gradient(before), _gradient(after)
    seen = [g / np.maximum(box_mean(x, 3), 1 / 255) >= VISIBLE for g, x in zip(gradients, (before, after), strict=True)]
    old, new = int(seen[0].sum()), int(seen[1].sum())
    ratio = np.log(np.maximum(gradients[1][seen[1]], 1e-3) / np.maximum(gradients[0][seen[1]], 1e-3))
    extreme = [(x <= 0.5 / 255) | (x >= 254.5 / 255) for x in (before, after)]
    return EdgeGain(
        (new - old) / old if old else (float("inf") if new else 0.0),
        float(np.exp(ratio.mean())) if new else 1.0,
        float((extreme[1] & ~extreme[0]).mean()),
    )


def flicker_ratio(before: Array, after: Array) -> float:
    """How much more a video flickers than its input: ratio of the mean |second difference| of the frames' mean luma ``[T]``.

    1 is as much as the input; second differences leave out steady changes of light. 0/0 is 1. Raises ValueError for fewer
    than three frames or two lengths.
    """
    if len(before) != len(after) or len(before) < 3:
        raise ValueError(f"flicker needs two sequences of three or more frames, not {len(before)} and {len(after)}")
    given, found = (float(np.abs(np.diff(np.asarray(x, np.float64), 2)).mean()) for x in (before, after))
    return found / given if given > 0 else (1.0 if found == 0 else float("inf"))


def _gradient(x: Array) -> Array:
    down, across = np.gradient(x) if min(x.shape) > 1 else (np.zeros_like(x), np.zeros_like(x))
    return np.hypot(down, across)


def _unit(image: NDArray) -> NDArray[np.float64]:
    return image / 255.0 if image.dtype == np.uint8 else image.astype(np.float64, copy=False)
