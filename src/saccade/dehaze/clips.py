"""Reading video: files, folders of pictures, cameras."""

from __future__ import annotations

import itertools
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.dehaze import video_colour
from saccade.dehaze.pictures import MAX_PIXELS, check_size, is_picture, read_picture
from saccade.dehaze.video_colour import Colour
from saccade.optional import need

VIDEOS = frozenset({".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts"})
# Formats that hold their frames themselves. Lists of other files (concat, HLS, DASH, ...) are none of them.
DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegvideo,mpegts,flv,asf,ogg,gif"
SHORT = "MP4, MOV, MKV, WebM, AVI, MPEG, TS, FLV, ASF, Ogg or GIF"


@dataclass(frozen=True)
class Clip:
    """A video that is read once: frames a second, how many frames (None: unknown), the frames.

    ``times``: seconds of the frames that were read and not yet asked about, in units of ``base``; none for a folder.
    ``colour``: the tags of the first frame; None for pictures. ``aspect``: width of a pixel by its height; None: square.
    """

    rate: Fraction
    total: int | None
    frames: Iterator[NDArray[np.uint8]]
    base: Fraction | None = None
    times: deque[Fraction | None] = field(default_factory=deque)
    colour: Colour | None = None
    aspect: Fraction | None = None

    def time(self) -> Fraction | None:
        """When the frame that was read last is shown, where the file says so; once a frame."""
        return self.times.popleft() if self.times else None


def is_video(path: Path) -> bool:
    """Whether a name looks like a video file."""
    return path.suffix.lower() in VIDEOS


def file_url(path: Path) -> str:
    """A path as FFmpeg takes it literally: without a word in front, 12:30:05.mp4 would be of the protocol 12."""
    return f"file:{path}"


def open_clip(source: Path | int, max_pixels: int = MAX_PIXELS) -> Clip:
    """A video file, a folder of pictures in the order of their names (25 a second), or a camera's number.

    Frames are turned as the file's display matrix says, in quarters. Files are opened as one of ``DEMUXERS`` and nothing but
    the file itself is read. Raises ValueError naming what cannot be opened, has no frames or frames of more than
    ``max_pixels``; a break later ends the frames with a ValueError.
    """
    if isinstance(source, Path) and source.is_dir():
        files = sorted(path for path in source.iterdir() if is_picture(path))
        if not files:
            raise ValueError(f"{source}: holds no pictures to take as frames")
        return Clip(Fraction(25), len(files), (_frame_of(path, max_pixels) for path in files))
    av = need("av", "dehaze")
    label = str(source) if isinstance(source, Path) else f"camera {source}"
    try:
        if isinstance(source, Path):
            if not source.is_file():
                raise ValueError("no regular file")
            allowed = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
            container = av.open(file_url(source), container_options=allowed)
        else:
            name, form = _camera(source)
            container = av.open(name, format=form)
    except (OSError, ValueError, av.FFmpegError) as error:
        raise ValueError(f"{label}: cannot be opened as video ({_why(error)})") from None
    if not container.streams.video:
        container.close()
        raise ValueError(f"{label}: holds no video stream")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        container.close()
        raise ValueError(f"{label}: there is no decoder for its video stream")
    try:
        check_size(stream.codec_context.width, stream.codec_context.height, max_pixels)
    except ValueError as error:
        container.close()
        raise ValueError(f"{label}: {error}") from None
    stream.thread_type = "AUTO"
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    times: deque[Fraction | None] = deque()
    decoded = _decoded(av, container, stream, label, times)
    try:
        frame = next(decoded)
        first = _upright(frame, label)
    except StopIteration:
        raise ValueError(f"{label}: a video without frames") from None
    aspect = stream.sample_aspect_ratio
    if aspect and _quarters(frame) % 2:
        aspect = 1 / aspect
    frames = itertools.chain([first], (_upright(each, label) for each in decoded))
    colour = video_colour.of_frame(frame, stream.codec_context)
    return Clip(
        Fraction(rate),
        stream.frames or None,
        frames,
        stream.time_base,
        times,
        colour,
        None if aspect == 1 else aspect or None,
    )


def _decoded(av: Any, container: Any, stream: Any, label: str, times: deque[Fraction | None]) -> Iterator[Any]:
    """The decoder's frames."""
    count = 0
    try:
        for frame in container.decode(stream):
            times.append(None if frame.pts is None else frame.pts * frame.time_base)
            yield frame
            count += 1
    except (OSError, ValueError, av.FFmpegError) as error:
        raise ValueError(f"{label}: broken after frame {count} ({reason(error)})") from None
    finally:
        container.close()


def _upright(frame: Any, label: str) -> NDArray[np.uint8]:
    try:
        pixels = video_colour.to_rgb(frame)
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from None
    quarters = _quarters(frame)
    return np.ascontiguousarray(np.rot90(pixels, quarters)) if quarters else pixels


def _quarters(frame: Any) -> int:
    return round(frame.rotation / 90) % 4


def _frame_of(path: Path, max_pixels: int) -> NDArray[np.uint8]:
    pixels = read_picture(path, max_pixels).pixels
    if pixels.dtype != np.uint8:
        raise ValueError(f"{path}: frames have 8 bits a channel, not 16")
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2)


def _camera(number: int) -> tuple[str, str]:
    if sys.platform == "darwin":
        return str(number), "avfoundation"
    return f"/dev/video{number}", "v4l2"


def _why(error: BaseException) -> str:
    """The reason why a file was not opened; of a format that is not read, which ones are."""
    words = reason(error)
    return f"none of {SHORT}" if "Invalid" in words else words


def reason(error: BaseException) -> str:
    """One line of what a library says."""
    return " ".join((getattr(error, "strerror", None) or str(error)).split()) or type(error).__name__
