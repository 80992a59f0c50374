"""Live video: the parameters of the picture before carry over, so that the result does not flicker with the estimates."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.dehaze import method, metrics, native
from saccade.dehaze.dehazer import check_picture, contrast
from saccade.dehaze.optional import need
from saccade.dehaze.pictures import Picture, aside_of, is_picture, read_picture, write_picture
from saccade.dehaze.settings import Settings, settings_for

Pixels = NDArray[np.uint8]
VIDEOS = frozenset({".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts"})
TIMED = frozenset({".mp4", ".m4v", ".mov", ".mkv"})  # keep frames at uneven times
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


# Files, folders of frames and cameras


@dataclass(frozen=True)
class Clip:
    """A video that is read once: frames a second, how many frames (None: unknown), the frames.

    ``times``: seconds of the frames that were read and not yet asked about, in units of ``base``; none for a folder.
    """

    rate: Fraction
    total: int | None
    frames: Iterator[Pixels]
    base: Fraction | None = None
    times: deque[Fraction | None] = field(default_factory=deque)

    def time(self) -> Fraction | None:
        """When the frame that was read last is shown, where the file says so; once a frame."""
        return self.times.popleft() if self.times else None


def is_video(path: Path) -> bool:
    """Whether a name looks like a video file."""
    return path.suffix.lower() in VIDEOS


def open_clip(source: Path | int) -> Clip:
    """A video file, a folder of pictures in the order of their names (25 a second), or a camera's number.

    Frames are turned as the file's display matrix says, in quarters.
    Raises ValueError naming what cannot be opened or has no frames; a break later ends the frames with a ValueError.
    """
    if isinstance(source, Path) and source.is_dir():
        files = sorted(path for path in source.iterdir() if is_picture(path))
        if not files:
            raise ValueError(f"{source}: holds no pictures to take as frames")
        return Clip(Fraction(25), len(files), (_frame_of(path) for path in files))
    av = need("av")
    name, form = (str(source), None) if isinstance(source, Path) else _camera(source)
    label = name if isinstance(source, Path) else f"camera {source}"
    try:
        container = av.open(name, format=form)
    except (OSError, ValueError) as error:  # PyAV's errors are both
        raise ValueError(f"{label}: cannot be opened as video ({_reason(error)})") from None
    if not container.streams.video:
        container.close()
        raise ValueError(f"{label}: holds no video stream")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    times: deque[Fraction | None] = deque()
    frames = _decoded(container, stream, label, times)
    try:
        first = next(frames)
    except StopIteration:
        raise ValueError(f"{label}: a video without frames") from None
    return Clip(Fraction(rate), stream.frames or None, itertools.chain([first], frames), stream.time_base, times)


def _decoded(container: Any, stream: Any, label: str, times: deque[Fraction | None]) -> Iterator[Pixels]:
    count = 0
    try:
        for frame in container.decode(stream):
            times.append(None if frame.pts is None else frame.pts * frame.time_base)
            pixels = frame.to_ndarray(format="rgb24")
            quarters = round(frame.rotation / 90) % 4
            yield np.ascontiguousarray(np.rot90(pixels, quarters)) if quarters else pixels
            count += 1
    except (OSError, ValueError) as error:
        raise ValueError(f"{label}: broken after frame {count} ({_reason(error)})") from None
    finally:
        container.close()


def _frame_of(path: Path) -> Pixels:
    pixels = read_picture(path).pixels
    if pixels.dtype != np.uint8:
        raise ValueError(f"{path}: frames have 8 bits a channel, not 16")
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2)


def _camera(number: int) -> tuple[str, str]:
    if sys.platform == "darwin":
        return str(number), "avfoundation"
    return f"/dev/video{number}", "v4l2"


class Writer:
    """Writes frames to a video file (H.264 where the library has it), which appears when it is whole, or to PNG files.

    ``base``: the unit of the frames' times, where they have such; MP4, MOV and MKV with H.264 keep them, the others have
    ``rate`` throughout.
    """

    def __init__(self, out: Path, rate: Fraction, base: Fraction | None = None) -> None:
        self.out, self.rate, self.count = out, rate, 0
        self._base = base if out.suffix.lower() in TIMED else None
        self._start: Fraction | None = None
        self._last = -1
        self._container: Any = None
        self._aside = aside_of(out)
        if is_video(out):
            out.parent.mkdir(parents=True, exist_ok=True)

    def add(self, frame: Pixels, time: Fraction | None = None) -> None:
        """The next frame, shown at ``time`` (seconds) if it is known. Raises OSError if it cannot be written."""
        if not is_video(self.out):
            write_picture(self.out / f"{self.count:06d}.png", Picture(frame))
        else:
            av = need("av")
            if self._container is None:
                self._open(av, frame)  # settles the codec, and with it whether times are kept
            shown = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            if self._base is not None:
                shown.time_base, shown.pts = self._base, self._place(time, self._base)
            self._container.mux(self._stream.encode(shown))
        self.count += 1

    def _place(self, time: Fraction | None, base: Fraction) -> int:
        """Where a frame lies in units of ``base`` after the first; where times are missing or run back, one step on."""
        following = self._last + max(1, round(1 / (self.rate * base))) if self.count else 0
        at = following
        if time is not None:
            if self._start is not None:
                at = round((time - self._start) / base)
            if self._start is None or at <= self._last:
                at, self._start = following, time - following * base
        self._last = at
        return at

    def _open(self, av: Any, frame: Pixels) -> None:
        try:
            self._container = av.open(str(self._aside), "w")
        except (OSError, ValueError) as error:
            raise OSError(f"{self.out}: cannot be written ({_reason(error)})") from None
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        self._stream = self._container.add_stream(codec, rate=self.rate)
        if codec != "libx264":  # others may not take so fine a unit
            self._base = None
        if self._base is not None:
            self._stream.codec_context.time_base = self._base
        self._stream.height, self._stream.width = frame.shape[:2]
        even = frame.shape[0] % 2 == 0 and frame.shape[1] % 2 == 0
        self._stream.pix_fmt = "yuv420p" if even or codec == "mpeg4" else "yuv444p"
        if codec == "libx264":
            self._stream.options = {"crf": "18", "preset": "veryfast"}
        else:
            self._stream.bit_rate = max(1_000_000, frame.shape[0] * frame.shape[1] * 8)

    def close(self, keep: bool = True) -> None:
        """End the file; it takes its place only if ``keep`` and a frame was written."""
        if self._container is None:
            return
        container, self._container = self._container, None
        try:
            container.mux(self._stream.encode())
            container.close()
        except (OSError, ValueError) as error:  # a full disk, say: nothing takes the place of what was there
            self._aside.unlink(missing_ok=True)
            raise OSError(f"{self.out}: cannot be written ({_reason(error)})") from None
        if keep and self.count:
            os.replace(self._aside, self.out)
        else:
            self._aside.unlink(missing_ok=True)


def dehaze_video(
    source: Path | int,
    out: Path,
    dehaze: Callable[[Pixels], Pixels],
    frames: int | None = None,
    tell: Callable[[int | None], None] = lambda total: None,
) -> dict[str, Any]:
    """Dehaze a whole video into a file or a folder of PNG files; stops after ``frames`` of them.

    Ctrl-C ends it after the frame at hand: the file is whole and playable, and ``interrupted`` is true in what comes back.
    So does a broken input, with its ``error``. ``flicker`` is relative to the input (saccade.dehaze.metrics.flicker_ratio);
    times are by the clock, for decoding goes on in threads of its own.
    Frames come out upright, at their times where the format has such; sound is left out.
    Raises ValueError for a source that cannot be opened, OSError for a place that cannot be written.
    """
    clip = open_clip(source)
    writer = Writer(out, clip.rate, clip.base)
    before: list[float] = []
    after: list[float] = []
    error, busy, started = None, 0.0, time.perf_counter()
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


def _reason(error: BaseException) -> str:
    return " ".join((getattr(error, "strerror", None) or str(error)).split()) or type(error).__name__
