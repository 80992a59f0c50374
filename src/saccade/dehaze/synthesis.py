"""Haze put onto clear pictures, from depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from saccade.dehaze.windows import Array
from saccade.optional import need


def synth_haze(clear: Array, depth: Array, beta: float, A: Sequence[float] | float) -> Array:
    """I = J t + A (1 - t) with t = exp(-beta depth) (Koschmieder 1924): RGB ``[H, W, 3]`` in [0, 1], depth ``[H, W]``.

    Raises ValueError for a negative beta or depth, NaN, and types that are not floating.
    """
    if clear.dtype.kind != "f" or depth.dtype.kind != "f":
        raise ValueError(f"picture and depth are floating, not {clear.dtype} and {depth.dtype}")
    if not (beta >= 0 and float(depth.min()) >= 0):
        raise ValueError(f"beta and depth are 0 or more, not {beta:g} and {float(depth.min()):g}")
    t = np.exp(-beta * depth)[..., None].astype(clear.dtype)
    return clear * t + np.asarray(A, clear.dtype) * (1 - t)


def stereo_scene() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A clear picture ``[500, 741, 3]`` and its depth, from the Middlebury pair that scikit-image brings along.

    Z ~ 1 / (disparity + 31.086), its least value 1; a pixel without a disparity takes that of the nearest one with it.
    """
    need("skimage", "dehaze")
    from scipy.ndimage import distance_transform_edt
    from skimage.data import stereo_motorcycle

    left, _, disparity = stereo_motorcycle()
    nearest = distance_transform_edt(~np.isfinite(disparity), return_distances=False, return_indices=True)
    depth = 1 / (disparity[tuple(nearest)].astype(np.float64) + 31.086)
    return left / 255.0, depth / depth.min()
