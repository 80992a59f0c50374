"""What people use instead: dark channel prior, colour attenuation prior, boundary constraint, CLAHE alone.

Each takes RGB ``[H, W, 3]`` in [0, 1], works in float32 with OpenCV's filters, and returns float32 in [0, 1].
The dark channel prior is patented (Microsoft; US application 20110188775 and its family).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from saccade.dehaze.clahe import clahe
from saccade.dehaze.method import cube_bound
from saccade.dehaze.windows import Array
from saccade.optional import need

Picture = NDArray[np.float32]
FEWEST = 0.1  # the least transmission of DCP and CAP


def dcp(image: Array, window: int = 15, omega: float = 0.95, radius: int = 40, eps: float = 1e-3) -> Picture:
    """Dark channel prior with a guided filter (He, Sun and Tang 2009, 2010): t = 1 - omega min min_c I_c / A_c."""
    image = image.astype(np.float32, copy=False)
    A = bright_airlight(image, window)
    t = 1 - omega * _erode((image / np.maximum(A, 1e-5)).min(2), window)
    return _recover(image, _guided(image, t, radius, eps), A)


def cap(image: Array, window: int = 15, beta: float = 1.0, radius: int = 60, eps: float = 1e-3) -> Picture:
    """Colour attenuation prior (Zhu, Mai and Shao 2015): depth = 0.121779 + 0.959710 V - 0.780245 S, t = exp(-beta depth)."""
    image = image.astype(np.float32, copy=False)
    value, least = image.max(2), image.min(2)
    saturation = (value - least) / np.maximum(value, 1e-5)
    depth = _erode(0.121779 + 0.959710 * value - 0.780245 * saturation, window)
    depth = _guided(image, depth, radius, eps)
    count = max(1, depth.size // 1000)
    farthest = np.argpartition(depth.ravel(), depth.size - count)[depth.size - count :]
    pixels = image.reshape(-1, 3)[farthest]
    A = pixels[np.argmax(pixels.sum(1))]
    return _recover(image, np.minimum(np.exp(-beta * depth), 0.9), A)


def bccr(image: Array, window: int = 15, radius: int = 40, eps: float = 1e-3) -> Picture:
    """Boundary constraint (Meng et al. 2013): the bound for [20, 300] / 255, closed over a window.

    A guided filter stands in for the paper's contextual regularisation.
    """
    cv2 = need("cv2", "dehaze")
    image = image.astype(np.float32, copy=False)
    A = bright_airlight(image, window)
    bound = np.clip(cube_bound(image, A, 20 / 255, 300 / 255), 0, 1).astype(np.float32)
    t = _erode(cv2.dilate(bound, np.ones((window, window), np.uint8)), window)
    return _recover(image, _guided(image, t, radius, eps), A)


def clahe_alone(image: Array) -> Picture:
    """Contrast alone, as the method's last step applies it."""
    return clahe(image.astype(np.float32, copy=False))


BASELINES: dict[str, Callable[[Array], Picture]] = {"dcp": dcp, "cap": cap, "bccr": bccr, "clahe": clahe_alone}


def bright_airlight(image: Picture, window: int = 15) -> Picture:
    """DCP's airlight ``[3]``: the brightest pixel among the 0.1 % with the brightest dark channel."""
    dark = _erode(image.min(2), window).ravel()
    count = max(1, dark.size // 1000)
    pixels = image.reshape(-1, 3)[np.argpartition(dark, dark.size - count)[dark.size - count :]]
    return pixels[np.argmax(pixels.sum(1))]


def _erode(x: Array, window: int) -> Picture:
    result: Picture = need("cv2", "dehaze").erode(x.astype(np.float32, copy=False), np.ones((window, window), np.uint8))
    return result


def _guided(image: Picture, t: Array, radius: int, eps: float) -> Picture:
    cv2 = need("cv2", "dehaze")
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    result: Picture = cv2.ximgproc.guidedFilter(luma, t.astype(np.float32, copy=False), radius, eps)
    return result


def _recover(image: Picture, t: Picture, A: Picture) -> Picture:
    return np.clip((image - A) / np.maximum(t, FEWEST)[..., None] + A, 0, 1)
