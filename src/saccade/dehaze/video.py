"""Live video: the parameters of the picture before carry over, so that the result does not flicker with the estimates."""

from __future__ import annotations

import dataclasses
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.dehaze import method, metrics, native
from saccade.dehaze.clips import open_clip
from saccade.dehaze.dehazer import check_picture, contrast
from saccade.dehaze.pictures import MAX_PIXELS
from saccade.dehaze.settings import Settings, settings_for
from saccade.dehaze.video_writer import Writer

Pixels = NDArray[np.uint8]
CUT = 0.35  # share of the pixels that change their bin of luma between two scenes
BINS = 64
SMALLEST = 64  # pixels of the shorter side of a reduced frame


@dataclass(frozen=True)
class State:
    """What carries over from frame to frame: airlight ``[3]``, the depth order's extremes, Theta."""

    airlight: NDArray
    farthest: float
    nearest: float
    theta: float


class VideoDehazer:
    """Dehazes the frames of one video in order: ``dehazer(frame)``, uint8 ``[H, W, 3]``.

    The parameters are estimated on every ``every``-th frame, reduced by ``reduce``, and follow the estimates with the weight
    ``smoothing`` a frame (1: no smoothing). Where the luma histogram says that the scene was cut they start anew; ``reset``
    does so by hand. ``out``: a contiguous array of the frame's shape to write to, the frame itself if need be. Raises
    ValueError for a frame that is no picture or of another size than those before, and for an ``out`` that does not fit.
    """

    def __init__(
        self,
        preset: str | Settings = "video",
        smoothing: float = 0.1,
        every: int = 5,
        reduce: int = 2,
        cut: float = CUT,
        **changes: Any,
    ) -> None:
        if not 0 < smoothing <= 1 or every < 1 or reduce < 1 or not cut > 0:
            raise ValueError(
                "smoothing lies in (0, 1], every and reduce are 1 or more, cut is above 0, "
                f"not {smoothing:g}, {every}, {reduce}, {cut:g}"
            )
        self.settings = settings_for(preset, **changes)
        self.smoothing, self.every, self.reduce, self.cut = smoothing, every, reduce, cut
        if native.available():
            native.threads()  # loads torch now, not within the first frame's time
        self.reset()

    def reset(self) -> None:
        """Forget the video so far, the size of its frames too."""
        self._shape: tuple[int, ...] | None = None
        self.state: State | None = None
        self._since = 0
        self._histogram: NDArray | None = None

    def __call__(self, frame: Pixels, out: Pixels | None = None) -> Pixels:
        check_picture(frame)
        if frame.dtype != np.uint8 or frame.ndim != 3:
            raise ValueError(f"a frame is uint8 [H, W, 3], not {frame.dtype} {list(frame.shape)}")
        if self._shape is None:
            self._prepare(frame)
        elif frame.shape != self._shape:
            raise ValueError(
                f"a frame of {list(frame.shape)} in a video of {list(self._shape)}: reset it, or a new VideoDehazer"
            )
        if out is not None:
            _check_out(out, frame)
        self._follow(frame)
        state = self.state
        assert state is not None
        if self._full is None:
            result = _plain(frame, state, self.settings)
        else:
            self._full.load(frame, self.settings, airlight=False)
            self._full.order(state.airlight, self.settings)
            result, _ = self._full.render(state.farthest, state.nearest, state.theta, self.settings, out)
        result = contrast(result, self.settings)
        if out is None or result is out:
            return result
        np.copyto(out, result)
        return out

    def _prepare(self, frame: Pixels) -> None:
        height, width, _ = self._shape = frame.shape
        by = self.reduce if min(height, width) // self.reduce >= SMALLEST else 1
        self._by = by
        plain = self.settings
        window = plain.window_for(height, width)
        # windows are lengths in the scene: they shrink with the frame
        self._small_settings = dataclasses.replace(
            plain, window=max(3, window // by | 1), airlight_window=max(3, plain.airlight_window // by | 1)
        )
        self._full = self._small = None
        if native.available():
            self._full = native.Frame(height, width)
            self._small = native.Frame(*frame[::by, ::by].shape[:2])

    def _follow(self, frame: Pixels) -> None:
        """Bring the state up to date with a frame."""
        by = self._by
        luma = frame[::4, ::4, 1].ravel() // (256 // BINS)  # green stands for luma
        histogram = np.bincount(luma, minlength=BINS) / luma.size
        before, self._histogram = self._histogram, histogram
        scene_cut = before is not None and 0.5 * np.abs(histogram - before).sum() > self.cut
        if self.state is not None and not scene_cut:
            self._since += 1
            if self._since < self.every:
                return
        found = self._estimate(np.ascontiguousarray(frame[::by, ::by]))
        if self.state is None or scene_cut:
            self.state = found
        else:
            weight = 1 - (1 - self.smoothing) ** self._since
            old = self.state
            mixed = [
                a + weight * (b - a) for a, b in zip(dataclasses.astuple(old), dataclasses.astuple(found), strict=True)
            ]
            airlight, farthest, nearest, theta = mixed
            self.state = State(airlight, farthest, nearest, max(theta, nearest))
        self._since = 0

    def _estimate(self, frame: Pixels) -> State:
        settings = self._small_settings
        if self._small is None:
            image = frame / 255.0
            A = method.airlight(image, settings.airlight_window, settings.airlight_fraction)
            scene = method.depth_order(image, A, settings.window_for(*frame.shape[:2]))
            theta = method.solve_theta(scene, method.cube_bound(image, A, settings.low, settings.high), settings.eps)
            return State(A, scene.farthest, scene.nearest, theta.value)
        A = self._small.load(frame, settings)
        farthest, nearest = self._small.order(A, settings)
        theta, _ = self._small.theta(farthest, nearest, settings)
        return State(A, farthest, nearest, theta.value)


def _check_out(out: Pixels, frame: Pixels) -> None:
    if not isinstance(out, np.ndarray) or out.dtype != np.uint8 or out.shape != frame.shape:
        raise ValueError(f"out is a uint8 array of {list(frame.shape)}, like the frame")
    if not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError("out is contiguous and may be written to")


def _plain(frame: Pixels, state: State, settings: Settings) -> Pixels:
    """A frame under a given state, in NumPy."""
    image = frame / 255.0
    order = method.depth_order(image, state.airlight, settings.window_for(*frame.shape[:2])).order
    order = np.clip(order, state.farthest, state.nearest)
    spread = state.nearest - state.farthest
    weight = (order - state.farthest) / spread if spread > 0 else np.zeros_like(order)
    t = method.transmission(method.DepthOrder(order, weight, state.farthest, state.nearest), state.theta)
    t = method.guided_filter(method.grey(image), t, settings.radius, settings.guide_eps, settings.subsample)
    J = method.recover(image, np.clip(t, settings.least, 1), state.airlight)
    return np.floor(np.clip(J, 0, 1) * 255 + 0.5).astype(np.uint8)


def dehaze_video(
    source: Path | int,
    out: Path,
    dehaze: Callable[[Pixels], Pixels],
    frames: int | None = None,
    tell: Callable[[int | None], None] = lambda total: None,
    max_pixels: int = MAX_PIXELS,
) -> dict[str, Any]:
    """Dehaze a whole video into a file or a folder of PNG files; stops after ``frames`` of them.

    Ctrl-C ends it after the frame at hand: the file is whole and playable, and ``interrupted`` is true in what comes back.
    So does a broken input, with its ``error``. ``flicker`` is relative to the input (saccade.dehaze.metrics.flicker_ratio);
    times are by the clock, for decoding goes on in threads of its own: ``seconds`` from opening the input to the end of the
    file, ``dehazing_ms_per_frame`` of ``dehaze`` alone. ``padding``: columns and rows that the codec needed beyond odd sides.
    Frames come out upright, at their times where the format has such, their pixels as wide and their colours tagged as they
    were; sound is left out.
    Raises ValueError for a source that cannot be opened, OSError for a place that cannot be written.
    """
    started = time.perf_counter()
    clip = open_clip(source, max_pixels)
    writer = Writer(out, clip.rate, clip.base, clip.colour, clip.aspect)
    before: list[float] = []
    after: list[float] = []
    error, busy = None, 0.0
    kept = False
    with _interruptible() as interrupted:
        try:
            for frame in itertools.islice(clip.frames, frames):
                shown = clip.time()
                begun = time.perf_counter()
                result = dehaze(frame)
                busy += time.perf_counter() - begun
                writer.add(result, shown)
                before.append(float(frame[::4, ::4].mean()))
                after.append(float(result[::4, ::4].mean()))
                tell(clip.total if frames is None else frames)
                if interrupted():
                    break
            kept = True
        except ValueError as broken:
            error = str(broken)
            kept = True
        finally:
            writer.close(keep=kept)
    count, seconds = len(before), time.perf_counter() - started
    if not count:
        raise ValueError(error or f"{source}: a video without frames")
    return {
        "output": str(out),
        "frames": count,
        "seconds": round(seconds, 3),
        "frames_per_second": round(count / seconds, 2),
        "dehazing_ms_per_frame": round(busy / count * 1e3, 3),
        "flicker": round(metrics.flicker_ratio(np.array(before), np.array(after)), 4) if count >= 3 else None,
        "padding": list(writer.padding),
        "interrupted": interrupted(),
        "error": error,
    }


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C asks, instead of stopping at once; a second one stops."""
    asked = False

    def handler(*_: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    previous = signal.signal(signal.SIGINT, handler)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, previous)
