"""Writing video: files that browsers play, or PNG files."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.dehaze import video_colour
from saccade.dehaze.clips import file_url, is_video, reason
from saccade.dehaze.pictures import Picture, aside_of, write_picture
from saccade.dehaze.video_colour import Colour
from saccade.optional import need

H264, VP9, VP8, MPEG4 = "libx264", "libvpx-vp9", "libvpx", "mpeg4"
# by suffix: FFmpeg's name of the container, and the encoders to try in turn
CONTAINERS: dict[str, tuple[str, tuple[str, ...]]] = {
    ".mp4": ("mp4", (H264, MPEG4)),
    ".m4v": ("mp4", (H264, MPEG4)),
    ".mov": ("mov", (H264, MPEG4)),
    ".mkv": ("matroska", (H264, MPEG4)),
    ".webm": ("webm", (VP9, VP8)),
    ".avi": ("avi", (H264, MPEG4)),
    ".ts": ("mpegts", (H264, MPEG4)),
    ".mpg": ("mpeg", (H264, MPEG4)),
    ".mpeg": ("mpeg", (H264, MPEG4)),
}
TIMED = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm"})  # keep frames at uneven times
OPTIONS = {
    H264: {"crf": "18", "preset": "veryfast"},
    VP9: {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"},
    VP8: {"crf": "8", "b": "8M", "deadline": "realtime", "cpu-used": "6"},
    MPEG4: {},
}


class Writer:
    """Writes frames to a video file, which appears when it is whole, or to PNG files.

    The container is that of the suffix, H.264 in it and VP9 in WebM. ``base``: the unit of the frames' times, where they have
    such; MP4, M4V, MOV, MKV and WebM keep them, the others have ``rate`` throughout. ``colour``: tags to write (None: the
    frames are sRGB pictures). ``aspect``: width of a pixel by its height; WebM gets frames of square pixels instead.
    ``padding``: columns and rows by which frames with odd sides grew, by repeating the last ones; VP9 and VP8 have odd sides.
    """

    def __init__(
        self,
        out: Path,
        rate: Fraction,
        base: Fraction | None = None,
        colour: Colour | None = None,
        aspect: Fraction | None = None,
    ) -> None:
        self.out, self.rate, self.count = out, rate, 0
        self.padding = (0, 0)
        self._colour, self._aspect = colour, aspect
        self._base = base if out.suffix.lower() in TIMED else None
        self._start: Fraction | None = None
        self._last = -1
        self._container: Any = None
        self._stream: Any = None
        self._aside = aside_of(out)
        if is_video(out):
            out.parent.mkdir(parents=True, exist_ok=True)

    def add(self, frame: NDArray[np.uint8], time: Fraction | None = None) -> None:
        """The next frame, shown at ``time`` (seconds) if it is known. Raises OSError if it cannot be written."""
        if not is_video(self.out):
            write_picture(self.out / f"{self.count:06d}.png", Picture(frame))
        else:
            av = need("av", "dehaze")
            if self._stream is None:
                self._open(av, *frame.shape[:2])  # settles the codec, and with it whether times are kept
            assert self._colour is not None
            across, down = self.padding
            if across or down:
                frame = np.pad(frame, ((0, down), (0, across), (0, 0)), mode="edge")
            shown = video_colour.to_yuv(av, np.ascontiguousarray(frame), self._colour, self._stream.width)
            if self._base is not None:
                shown.time_base, shown.pts = self._base, self._place(time, self._base)
            try:
                self._container.mux(self._stream.encode(shown))
            except (OSError, ValueError, av.FFmpegError) as error:
                raise OSError(f"{self.out}: cannot be written ({reason(error)})") from None
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

    def _open(self, av: Any, height: int, width: int) -> None:
        suffix = self.out.suffix.lower()
        muxer, encoders = CONTAINERS[suffix]
        codec = next((name for name in encoders if name in av.codecs_available), None)
        if codec is None:
            possible = ", ".join(sorted(s for s, (_, names) in CONTAINERS.items() if set(names) & av.codecs_available))
            raise OSError(f"{self.out}: no encoder for {suffix} here ({' or '.join(encoders)}); possible: {possible}")
        try:
            self._container = av.open(file_url(self._aside), "w", format=muxer)
            stream = self._container.add_stream(codec, rate=self.rate)
        except (OSError, ValueError, av.FFmpegError) as error:
            raise OSError(f"{self.out}: cannot be written ({reason(error)})") from None
        if codec in (H264, MPEG4):
            self.padding = (width % 2, height % 2)
        stream.width, stream.height = width + self.padding[0], height + self.padding[1]
        if self._aspect is not None and suffix == ".webm":  # the library writes no aspect there: square pixels instead
            stream.width, self._aspect = max(1, round(stream.width * self._aspect)), None
        if codec == MPEG4:  # may not take so fine a unit, and has no tags
            self._base, self._colour = None, None
            stream.bit_rate = max(1_000_000, height * width * 8)
        if self._colour is None:
            self._colour = video_colour.of_pictures(width, height)
        if self._base is not None:
            stream.codec_context.time_base = self._base
        stream.pix_fmt = "yuv420p"
        video_colour.tag(stream.codec_context, self._colour)
        if self._aspect is not None:
            stream.codec_context.sample_aspect_ratio = self._aspect
        stream.options = OPTIONS[codec]
        self._stream = stream

    def close(self, keep: bool = True) -> None:
        """End the file; it takes its place only if ``keep`` and a frame was written."""
        if self._container is None:
            return
        container, self._container = self._container, None
        try:
            if self._stream is not None and self.count:
                container.mux(self._stream.encode())
            container.close()
        except (
            OSError,
            ValueError,
            need("av", "dehaze").FFmpegError,
        ) as error:  # a full disk, say: nothing takes the place of what was there
            self._aside.unlink(missing_ok=True)
            if keep and self.count:
                raise OSError(f"{self.out}: cannot be written ({reason(error)})") from None
            return
        if keep and self.count:
            os.replace(self._aside, self.out)
        else:
            self._aside.unlink(missing_ok=True)
