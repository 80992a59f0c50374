"""One interface over the engines: NumPy arrays or torch batches in, the same kind out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from saccade.dehaze import method, native
from saccade.dehaze.clahe import clahe
from saccade.dehaze.parts import Parts
from saccade.dehaze.settings import Settings, settings_for
from saccade.optional import need

if TYPE_CHECKING:
    from torch import Tensor

ENGINES = ("auto", "native", "numpy", "torch")


class Dehazer:
    """Dehazes pictures: ``Dehazer("fidelity")(image)``.

    Takes RGB ``[H, W, 3]`` or grey ``[H, W]`` arrays, uint8, uint16 or floats in [0, 1], and torch tensors ``[N, 3, H, W]`` or
    ``[N, 1, H, W]``, uint8 or floats; returns the same shape and type. ``engine``: "auto" takes torch for tensors, the native
    passes for uint8 arrays, NumPy (float64) for the rest. Keyword arguments change a preset's settings.

    Raises ValueError for a shape, type or value that is no picture, naming it.
    """

    def __init__(self, preset: str | Settings = "fidelity", engine: str = "auto", **changes: Any) -> None:
        if engine not in ENGINES:
            raise ValueError(f"unknown engine {engine!r}; known: {', '.join(ENGINES)}")
        self.settings = settings_for(preset, **changes)
        self.engine = engine
        self._spare: list[
            native.Frame
        ] = []  # the buffers of the last picture: fresh memory costs as much as the passes

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_spare": []}

    @overload
    def __call__(self, image: Any, return_parts: Literal[False] = False) -> Any: ...
    @overload
    def __call__(self, image: Any, return_parts: Literal[True]) -> tuple[Any, Parts]: ...
    def __call__(self, image: Any, return_parts: bool = False) -> Any:
        if not isinstance(image, np.ndarray):
            return self._tensor(image, return_parts)
        check_picture(image)
        colour = image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
        engine = self.engine
        if engine == "auto":
            engine = "native" if image.dtype == np.uint8 and native.available() else "numpy"
        if engine == "torch":
            raise ValueError("the torch engine takes tensors [N, 3, H, W], not arrays: torch.from_numpy(...)")
        if engine == "native":
            if image.dtype != np.uint8:
                raise ValueError(f"the native engine takes uint8 pictures, not {image.dtype}")
            if not native.available():
                raise ValueError("the native engine was not built here; use engine 'numpy'")
            frame = self._take(colour.shape[:2])
            result, parts = _native(frame, colour, self.settings, return_parts)
            self._spare[:] = [frame]
        else:
            result, parts = _numpy(colour, self.settings)
        result = result if image.ndim == 3 else result[..., 0]
        return (result, parts) if return_parts else result

    def _take(self, shape: tuple[int, ...]) -> native.Frame:
        """Buffers for a picture of this size, nobody else's while it is at work: the spare ones, or new ones."""
        try:
            frame = self._spare.pop()
        except IndexError:
            return native.Frame(*shape)
        return frame if frame.shape == shape and frame.threads == native.threads() else native.Frame(*shape)

    def _tensor(self, image: Tensor, return_parts: bool) -> Any:
        import torch

        from saccade.dehaze.batch import dehaze_batch

        if not isinstance(image, torch.Tensor):
            raise ValueError(f"a picture is a NumPy array or a torch tensor, not {type(image).__name__}")
        if self.engine not in ("auto", "torch"):
            raise ValueError(f"the {self.engine} engine takes arrays [H, W, 3], not tensors")
        result, parts = dehaze_batch(image, self.settings)
        return (result, parts) if return_parts else result


def check_picture(image: NDArray) -> None:
    """Raises ValueError where an array is no picture: its shape, its type, NaN or values outside [0, 1]."""
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or image.size == 0:
        raise ValueError(f"a picture is [H, W, 3] (RGB) or [H, W] (grey), not {list(image.shape)}")
    if image.dtype in (np.uint8, np.uint16):
        return
    if image.dtype.kind != "f":
        raise ValueError(f"a picture is uint8, uint16 or floating in [0, 1], not {image.dtype}")
    low, high = float(image.min()), float(image.max())
    if not np.isfinite([low, high]).all():
        bad = int((~np.isfinite(image)).sum())
        raise ValueError(f"the picture has {bad} values that are not finite (NaN or infinite)")
    if low < 0 or high > 1:
        raise ValueError(f"a floating picture lies in [0, 1], this one in [{low:g}, {high:g}]: divide it by its white")


def _native(frame: native.Frame, image: NDArray, settings: Settings, keep: bool) -> tuple[NDArray, Parts | None]:
    A = frame.load(image, settings)
    farthest, nearest = frame.order(A, settings)
    order = frame.plane() if keep else None
    theta, share = frame.theta(farthest, nearest, settings)
    out, outside = frame.render(farthest, nearest, theta.value, settings, keep=keep)
    result = contrast(out, settings)
    if not keep:
        return result, None
    parts = Parts(A, order, frame.plane(), farthest, nearest, theta.value, theta.clamped, share, outside)
    return result, parts


def _numpy(image: NDArray, settings: Settings) -> tuple[NDArray, Parts]:
    scale = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    x = image.astype(np.float64) / scale
    A = method.airlight(x, settings.airlight_window, settings.airlight_fraction)
    scene = method.depth_order(x, A, settings.window_for(*x.shape[:2]))
    bound = method.cube_bound(x, A, settings.low, settings.high)
    theta = method.solve_theta(scene, bound, settings.eps)
    t0 = method.transmission(scene, theta.value)
    t = method.guided_filter(method.grey(x), t0, settings.radius, settings.guide_eps, settings.subsample)
    t = np.clip(t, settings.least, 1)
    J = method.recover(x, t, A)
    outside = float(
        ((J.min(2) < -4e-6) | (J.max(2) > 1 + 4e-6)).mean()
    )  # beyond what float32 would round to the border
    below = float((t0 < bound * (1 - 1e-12)).mean())
    J = np.clip(J, 0, 1)
    if scale > 1:
        out = contrast(np.floor(J * scale + 0.5).astype(image.dtype), settings)
    else:
        out = contrast(J, settings).astype(image.dtype)
    return out, Parts(A, scene.order, t, scene.farthest, scene.nearest, theta.value, theta.clamped, below, outside)


def contrast(image: NDArray, settings: Settings) -> NDArray:
    """The last step: CLAHE as the settings say, each channel apart. Of uint8 the array itself may be changed."""
    if settings.clahe == "none":
        return image
    if settings.clahe == "opencv":
        cv2 = need("cv2", "dehaze")
        if image.dtype.kind == "f":
            raise ValueError("clahe 'opencv' takes uint8 or uint16 pictures; use 'matlab' for floats")
        tool = cv2.createCLAHE(clipLimit=settings.clip, tileGridSize=(8, 8))
        return np.stack([tool.apply(np.ascontiguousarray(image[..., c])) for c in range(3)], axis=2)
    if image.dtype == np.uint8 and native.available():
        return native.equalise(image, settings.clip)
    if image.dtype == np.uint16:
        mixed = clahe(image / 65535.0, settings.clip)
        return np.floor(mixed * 65535 + 0.5).astype(np.uint16)
    return clahe(image, settings.clip)
