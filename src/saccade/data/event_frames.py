"""Data sets of event recordings: which recordings, and what frames a network sees of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from saccade.data.frame_cache import Frames, cached, digest_of
from saccade.data.imageset import ImageSet, Indices
from saccade.data.source import DataSource, Parts
from saccade.events import REPRESENTATIONS, WINDOWS, EventStream, Representation, Windows, open_events
from saccade.events.framing import Framing


class Clip(NamedTuple):
    """A sample: a file, or what happens in it from ``start_us`` until before ``stop_us``; and its label."""

    path: Path
    label: int
    start_us: int | None = None
    stop_us: int | None = None


@dataclass(frozen=True)
class EventSource(DataSource):
    """A set of event recordings. ``representation`` and ``windows`` decide what a frame is and how many a sample has.

    binning: pixels a side that are put together. cache: frames are made once and kept on disk, in $SACCADE_CACHE or
    ~/.cache/saccade, under a key of the recordings' contents and all settings; without it they are made whenever they are asked
    for. lenient: what is wrong in a recording is left out with a warning, instead of being refused. ``sensor``: height and
    width in pixels.
    """

    scale: ClassVar[float] = 1.0
    sequences: ClassVar[bool] = True
    sensor: ClassVar[tuple[int, int]]
    transpose: ClassVar[bool] = False
    reading: ClassVar[int] = 1  # raised where what is read of a file changes, so that kept frames are made again
    representation: Representation = REPRESENTATIONS["count"]
    windows: Windows = WINDOWS["equal_count"]
    binning: Annotated[int, Field(ge=1, le=1024)] = 1
    cache: bool = True
    lenient: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if getattr(self.windows, "frames", None) is None:
            raise ValueError(
                f"windows: samples need the same number of frames: give frames to {self.windows.kind()}, "
                "or choose equal_time or equal_count"
            )

    def framing(self) -> Framing:
        """What makes frames of a recording of this set."""
        height, width = self.sensor
        return Framing(self.representation, self.windows, height, width, self.binning, self.transpose)

    def open(self, path: Path) -> EventStream:
        """A recording. Raises ValueError or OSError, in one line naming the file."""
        height, width = self.framing().recorded
        return open_events(path, height=height, width=width, lenient=self.lenient)

    def parts(self, train: Sequence[Clip], test: Sequence[Clip], classes: Sequence[str]) -> Parts:
        """The two sets of these samples. Raises ValueError naming a file of which no frames can be made."""
        return Parts(self.frames_of(train, classes), self.frames_of(test, classes))

    def frames_of(self, clips: Sequence[Clip], classes: Sequence[str]) -> EventFrames:
        """The set of these samples. Raises ValueError naming a file of which no frames can be made."""
        targets = torch.tensor([clip.label for clip in clips], dtype=torch.int64)
        return self.frames_by(Reader(self.framing(), clips, self.open), targets, classes)

    def frames_by(self, reader: Frames, targets: Tensor, classes: Sequence[str]) -> EventFrames:
        """The set of a reader's samples, kept on disk if the source says so."""
        reading = f"{self.kind()} {self.reading}{' lenient' * self.lenient}"
        kept = cached(reader, reading) if self.cache else None
        return EventFrames(reader, targets, classes, kept)


class Reader:
    """Frames of samples, ``[T, C, H, W]``, made when they are asked for."""

    def __init__(self, framing: Framing, clips: Sequence[Clip], open_: Callable[[Path], EventStream]) -> None:
        self.framing, self.clips, self.open = framing, clips, open_
        self._last: tuple[Path, EventStream] | None = None

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Tensor:
        """Raises ValueError naming the file."""
        path, _, start_us, stop_us = self.clips[index]
        if self._last is None or self._last[0] != path:  # one file may hold many samples
            self._last = path, self.open(path)
        events = self._last[1]
        if start_us is not None and stop_us is not None:
            events = events.between(start_us, stop_us)
        try:
            return self.framing.frames(events)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def made_of(self) -> list[Any]:
        """The contents of the recordings, and which part of which is which sample."""
        digests = {path: digest_of(path) for path in dict.fromkeys(clip.path for clip in self.clips)}
        return [(digests[clip.path], clip.start_us, clip.stop_us) for clip in self.clips]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_last": None}


class EventFrames(ImageSet):
    """Frames of recordings. ``frames``: how they are made, as a model file keeps it (``saccade.events.framing``)."""

    scale = 1.0
    sequences = True

    def __init__(
        self,
        reader: Frames,
        targets: Tensor,
        classes: Sequence[str],
        kept: Path | None = None,
        rows: Tensor | None = None,
    ) -> None:
        """``rows``: which of the reader's samples these are (None: all). ``kept``: the file of all its frames, if any."""
        self.reader, self.targets, self.classes, self.kept = reader, targets, tuple(classes), kept
        self.shape, self.frames = reader.framing.shape, reader.framing.record()
        self.rows = torch.arange(len(targets)) if rows is None else rows
        self._map: Any = None

    def __getitems__(self, indices: Indices) -> tuple[Tensor, Tensor]:
        index = torch.as_tensor(indices, dtype=torch.int64)
        rows = self.rows[index].tolist()
        if self.kept is None:
            made = [self.reader[row] for row in rows]
            frames = torch.stack(made) if made else torch.zeros(0, 0, *self.shape)
        else:
            if self._map is None:
                self._map = np.load(self.kept, mmap_mode="r")
            part = self._map[rows]
            frames = torch.from_numpy(part if part.dtype == np.uint8 else part.astype(np.float32))
        return frames, self.targets[index]

    def subset(self, indices: Indices) -> EventFrames:
        index = torch.as_tensor(indices, dtype=torch.int64)
        return EventFrames(self.reader, self.targets[index], self.classes, self.kept, self.rows[index])

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_map": None}  # a child maps the file itself
