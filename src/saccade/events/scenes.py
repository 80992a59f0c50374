"""What a simulated camera sees: pictures that move along a path, frames of a video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.events.simulate import Timed

# corners of a way that a picture goes, in amplitudes; each side takes as long
PATHS = {
    # an isosceles triangle, as the camera of N-MNIST moves (Orchard et al. 2015)
    "saccades": ((0.0, 0.0), (0.5, 1.0), (1.0, 0.0), (0.0, 0.0)),
    # closed loops of diagonals, as the images of CIFAR10-DVS move (Li et al. 2017)
    "loop": ((0.0, 0.0), (0.5, 0.5), (0.0, 1.0), (-0.5, 0.5), (0.0, 0.0)),
}
LUMA = np.array([0.299, 0.587, 0.114])


def moving(
    picture: NDArray[Any],
    height: int,
    width: int,
    path: str = "saccades",
    amplitude: float = 4.0,
    duration_us: int = 300_000,
    step_us: int = 3_000,
) -> Iterator[Timed]:
    """A grey picture, values in [0, 1], that moves over a sensor along a path, seen every ``step_us``.

    ``picture``: ``[h, w]`` or ``[N, h, w]``; its middle is brought to the size of the sensor and what the movement takes at its
    sides; several are stacked into rows: views are ``[N * height, width]``. ``amplitude``: pixels. Raises ValueError
    for an unknown path or sizes below 1.
    """
    if path not in PATHS:
        raise ValueError(f"unknown path {path!r}; known: {', '.join(PATHS)}")
    if min(height, width, duration_us, step_us) < 1 or amplitude < 0:
        raise ValueError("height, width, duration and step are 1 or more, the amplitude is not negative")
    corners = np.array(PATHS[path]) * amplitude
    corners -= corners.min(0)
    reach = np.ceil(corners.max(0)).astype(int) + 1
    rows, columns = height + int(reach[0]), width + int(reach[1])
    wide = resized(cropped(picture if picture.ndim == 3 else picture[None], rows, columns), rows, columns)
    times = np.append(np.arange(0, duration_us, step_us), duration_us)
    at = times / duration_us * (len(corners) - 1)
    for time_us, share in zip(times, at, strict=True):
        side = min(int(share), len(corners) - 2)
        dy, dx = corners[side] + (share - side) * (corners[side + 1] - corners[side])
        yield Timed(float(time_us), _view(wide, dy, dx, height, width).reshape(-1, width))


def _view(wide: NDArray[np.float64], dy: float, dx: float, height: int, width: int) -> NDArray[np.float64]:
    """``[pictures, height, width]`` from (dy, dx), linear between pixels."""
    y, x = int(dy), int(dx)
    fy, fx = dy - y, dx - x
    rows = (1 - fy) * wide[:, y : y + height] + fy * wide[:, y + 1 : y + 1 + height]
    return (1 - fx) * rows[:, :, x : x + width] + fx * rows[:, :, x + 1 : x + 1 + width]


def resized(pictures: NDArray[Any], height: int, width: int) -> NDArray[np.float64]:
    """Grey pictures ``[N, h, w]`` in another size: linear, with a filter as wide as a pixel where they shrink."""
    from PIL import Image

    made = [
        np.asarray(Image.fromarray(one.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))
        for one in pictures
    ]
    return np.stack(made).astype(np.float64)


def shown(frames: Iterable[tuple[float, NDArray[np.uint8]]], shape: tuple[int, int] | None = None) -> Iterator[Timed]:
    """Frames ``[H, W, 3]`` or ``[H, W]`` of 0 to 255 with their times in seconds, as grey pictures; the first is at 0.

    shape: of the sensor; the middle of each frame is brought to it (None: frames as they are).
    """
    first: float | None = None
    for seconds, frame in frames:
        first = seconds if first is None else first
        picture = grey(frame / 255)
        if shape is not None and picture.shape != shape:
            picture = resized(cropped(picture, *shape)[None], *shape)[0]
        yield Timed((seconds - first) * 1e6, picture)


def grey(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    """Luma ``[H, W]`` of ``[H, W, 3]`` (or ``[H, W]``, as it is)."""
    return picture @ LUMA if picture.ndim == 3 else picture


def cropped(picture: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """The middle of a picture ``[..., h, w]`` that has the proportions of height to width."""
    h, w = picture.shape[-2:]
    rows, columns = min(h, max(1, round(w * height / width))), min(w, max(1, round(h * width / height)))
    top, left = (h - rows) // 2, (w - columns) // 2
    return picture[..., top : top + rows, left : left + columns]
