"""From a recording to the input of a network: everything that decides it, as files and streams hold it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from saccade.events.representations.base import FrameStream, Representation
from saccade.events.stream import EventStream
from saccade.events.windows import Window, Windows


@dataclass(frozen=True)
class Framing:
    """Frames ``[T, C, ceil(height / binning), ceil(width / binning)]`` of recordings of one sensor.

    height, width: of the sensor, in pixels. binning: pixels a side that are put together, before anything is counted.
    transpose: rows of the recording are columns of the frames; height and width are then the frames' (before binning).
    """

    representation: Representation
    windows: Windows
    height: int
    width: int
    binning: int = 1
    transpose: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of a frame."""
        return len(self.representation.channels), -(-self.height // self.binning), -(-self.width // self.binning)

    @property
    def recorded(self) -> tuple[int, int]:
        """Height and width of the sensor that records."""
        return (self.width, self.height) if self.transpose else (self.height, self.width)

    def record(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "representation": self.representation.record(),
            "windows": self.windows.record(),
            "height": self.height,
            "width": self.width,
            "binning": self.binning,
            "transpose": self.transpose,
        }

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> Framing:
        """From a record. Raises ValueError, in one line, for one that is damaged or names what is not there."""
        sizes = [record.get(key) for key in ("height", "width", "binning")]
        if not all(isinstance(size, int) and 1 <= size <= 1 << 16 for size in sizes):
            raise ValueError(f"height, width and binning are numbers of pixels, got {sizes}")
        height, width, binning = (int(size) for size in sizes if size is not None)
        return cls(
            Representation.parse(record.get("representation")),
            Windows.parse(record.get("windows")),
            height,
            width,
            binning,
            record.get("transpose") is True,
        )

    def fit(self, events: EventStream) -> EventStream:
        """The events on the sensor of the frames, binned. Raises ValueError for a recording of a larger sensor."""
        events = events if events.checked else events[:]
        if self.transpose:
            events = EventStream.trusted(events.t, events.y, events.x, events.p, events.width, events.height)
        if events.height > self.height or events.width > self.width:
            raise ValueError(
                f"was recorded with {events.width} x {events.height} pixels, and the frames have {self.width} x "
                f"{self.height}; cut it to the part that matters first"
            )
        _, height, width = self.shape
        if (events.height, events.width, self.binning) == (height, width, 1):
            return events
        x, y = events.x, events.y
        if self.binning > 1:
            x, y = x // np.uint16(self.binning), y // np.uint16(self.binning)
        return EventStream.trusted(events.t, x, y, events.p, height, width)

    def frames(self, events: EventStream) -> Tensor:
        """All frames of a recording, float32 ``[T, C, H, W]``."""
        return self.stream().frames(self.fit(events), self.windows)

    def stream(self) -> FrameStream:
        """Frames one after the other."""
        return FrameStream(self.representation, *self.shape[1:])

    def windows_of(self, pieces: Iterator[EventStream]) -> Iterator[Window]:
        """The windows of a recording that comes in pieces, each as soon as it is complete; the last at the end.

        Raises ValueError, by name, for windows that look ahead.
        """
        cutter = self.windows.cutter()
        for piece in pieces:
            yield from cutter.push(self.fit(piece))
        yield from cutter.rest()
