"""A tracker on events that come in pieces: from a file, a pipe, a camera."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from saccade.events import EventStream, FrameStream
from saccade.events.framing import Framing
from saccade.events.windows import Window
from saccade.track.tracker import Box, Found


class Follower(Protocol):
    """What follows a target: ``Tracker``, and the baselines."""

    def init(self, frame: Tensor, box: Sequence[float]) -> Box: ...

    def track(self, frame: Tensor, events: EventStream | None = None) -> Found: ...


class Step(NamedTuple):
    """A window and where the target is at its end. latency_ms: from the window being complete to the box, frame included.

    ``found`` is None in the first window, whose box was given.
    """

    number: int
    window: Window
    box: Box
    found: Found | None
    latency_ms: float


def follow(
    tracker: Follower,
    framing: Framing,
    pieces: Iterable[EventStream],
    box: Sequence[float],
    start_us: int | None = None,
) -> Iterator[Step]:
    """A step for each window of events that come in pieces, as soon as the window is complete.

    The box belongs to the first window, or to the first one that ends after ``start_us``. A window without events holds it.
    Raises ValueError for a box that is none, windows that look ahead, events that run back in time or leave the sensor, and
    recordings without events.
    """
    frames: FrameStream | None = None
    cutter = framing.windows.cutter()
    number = 0

    def windows() -> Iterator[Window]:
        for piece in pieces:
            yield from cutter.push(piece if piece.checked else piece[:])
        yield from cutter.rest()

    for window in windows():
        events = window.events
        begun = time.perf_counter()
        frames = frames or FrameStream(framing.representation, events.height, events.width)
        frame = frames.update(*window)  # the representation may carry on from windows before the first one
        if start_us is not None and window.stop_us <= start_us:
            continue
        found = None
        if number == 0:
            where = tracker.init(frame, box)
        else:
            found = tracker.track(frame, events)
            where = found.box
        yield Step(number, window, where, found, (time.perf_counter() - begun) * 1e3)
        number += 1
    if number == 0:
        words = "no events" if frames is None else f"no window behind {start_us} us"
        raise ValueError(f"the recording has {words}, so there is nothing to follow")
