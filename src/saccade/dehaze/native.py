"""The native engine: uint8 ``[H, W, 3]`` in and out, float32 between, one pass a step (native/dehaze_kernels.cpp)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.dehaze.method import Theta
from saccade.dehaze.settings import Settings

try:
    from saccade import _native
except ImportError:  # a platform without a wheel, or a source tree that was never built
    _native = None  # type: ignore[assignment]

Pixels = NDArray[np.uint8]


def available() -> bool:
    """Whether the native kernels were built."""
    return _native is not None


def threads() -> int:
    """As many as torch uses; its OpenMP runtime runs the passes."""
    import torch

    return torch.get_num_threads()


class Frame:
    """The buffers for pictures of one size, used again from picture to picture: 4 float32 and 4 uint8 planes.

    The steps are those of saccade.dehaze.method, in the same order: ``load``, ``order``, ``theta``, ``render``.
    """

    def __init__(self, height: int, width: int) -> None:
        self.shape = (height, width)
        self.threads = threads()
        self._passes: Any = _native.Dehazing(height, width, self.threads)
        self._image: Pixels | None = None

    @property
    def bytes(self) -> int:
        """What the buffers take."""
        return int(self._passes.bytes)

    def load(self, image: Pixels, settings: Settings, airlight: bool = True) -> NDArray[np.float64]:
        """Take a picture; its airlight ``[3]`` if asked for."""
        self._image = np.ascontiguousarray(image)
        window = self._least(settings.airlight_window) if airlight else 0
        return np.array(self._passes.load(self._image.ctypes.data, window, settings.airlight_fraction))

    def order(self, A: NDArray, settings: Settings) -> tuple[float, float]:
        """The depth order's smallest and largest value."""
        low, high = self._passes.order([float(a) for a in A], self._least(settings.window_for(*self.shape)))
        return low, high

    def theta(self, farthest: float, nearest: float, settings: Settings) -> tuple[Theta, float]:
        """Theta, and the share of pixels whose transmission it leaves below their bound."""
        found, share = self._passes.theta(farthest, nearest, settings.eps, settings.low, min(settings.high, 1e30))
        return Theta(max(found, nearest), found < nearest), share

    def render(
        self,
        farthest: float,
        nearest: float,
        theta: float,
        settings: Settings,
        out: Pixels | None = None,
        keep: bool = False,
    ) -> tuple[Pixels, float]:
        """The picture, and the share of pixels that left the cube; ``keep`` makes ``plane`` the transmission."""
        out = np.empty((*self.shape, 3), np.uint8) if out is None else out
        most = max(self.shape)  # beyond it nothing changes
        lines = (min(settings.radius, most), settings.guide_eps, settings.least, min(settings.subsample, most))
        outside = self._passes.render(out.ctypes.data, farthest, nearest, theta, *lines, keep)
        return out, outside

    def _least(self, window: int) -> int:
        """The smallest window that does the same on pictures of this size: the passes set aside memory by it."""
        return min(window, 2 * max(self.shape) + 1)

    def plane(self) -> NDArray[np.float32]:
        """After ``order`` the depth order, after ``render(keep=True)`` the transmission."""
        plane = np.empty(self.shape, np.float32)
        self._passes.copy_plane(plane.ctypes.data)
        return plane


def equalise(image: Pixels, clip: float) -> Pixels:
    """saccade.dehaze.clahe of uint8 ``[H, W, 3]``, in place."""
    height, width, _ = image.shape
    _native.clahe(image.ctypes.data, height, width, clip, threads())
    return image
