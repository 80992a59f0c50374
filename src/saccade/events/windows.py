"""Windows of a recording: which events make a frame, and from when to when it lasts.

``spans`` gives them for a whole recording: int64 ``[T, 4]``, a row a window: its first event, one past its last, its start
and its stop in microseconds. ``cutter`` gives them while events still come, for windows that need no look ahead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from saccade.config import Config, Registry
from saccade.events.stream import EventStream, concat, first_backward

WINDOWS: Registry[Windows] = Registry("kind of windows")
Spans = NDArray[np.int64]
Positive = Annotated[int, Field(ge=1)]
MOST = 1 << 24  # windows of a recording


class Window(NamedTuple):
    """Events of a window, and when it starts and stops, microseconds."""

    events: EventStream
    start_us: int
    stop_us: int


class Cutter:
    """Cuts what comes in pieces: ``push(events)`` gives the windows that are complete then, ``rest()`` what is left over."""

    def push(self, events: EventStream) -> Iterator[Window]:
        raise NotImplementedError

    def rest(self) -> Iterator[Window]:
        """The last window, which the end of the recording cuts short, if it holds an event."""
        raise NotImplementedError


@dataclass(frozen=True)
class Windows(Config):
    """How a recording is cut into windows. ``look_ahead``: whether where a window ends depends on events after it."""

    registry: ClassVar[Registry] = WINDOWS
    look_ahead: ClassVar[bool] = True

    def spans(self, events: EventStream) -> Spans:
        """The windows of a recording, in order. Raises ValueError for one that cannot be cut so."""
        raise NotImplementedError

    def cutter(self) -> Cutter:
        """For a stream. Raises ValueError, by name, for windows that look ahead."""
        raise ValueError(
            f"{self.kind()} cuts a recording by where it ends, so its windows cannot be streamed; "
            "give windows of a fixed duration or number of events"
        )


@dataclass(frozen=True)
class ByTime(Windows):
    """Half-open windows of ``duration_us`` from the first event on, empty ones included; the last holds the last event.

    ``frames``: exactly so many; what comes later is left out, a shorter recording goes on in empty windows.
    """

    look_ahead: ClassVar[bool] = False
    duration_us: Positive = 10_000
    frames: Positive | None = None

    def spans(self, events: EventStream) -> Spans:
        begin = int(events.t[0]) if len(events) else 0
        count = self.frames or (-(-(events.duration_us + 1) // self.duration_us) if len(events) else 0)
        if count > MOST:
            raise ValueError(
                f"a recording of {events.duration_us:,} us in windows of {self.duration_us} us has {count:,}, "
                f"more than {MOST:,}: make them longer, or say how many with frames"
            )
        return between(events, begin + self.duration_us * np.arange(count + 1, dtype=np.int64))

    def cutter(self) -> Cutter:
        return _TimeCutter(self.duration_us)


class _TimeCutter(Cutter):
    def __init__(self, duration_us: int) -> None:
        self.duration_us = duration_us
        self.pieces: list[EventStream] = []  # of the window that is not complete
        self.begin = 0

    def push(self, events: EventStream) -> Iterator[Window]:
        if not len(events):
            return
        if not self.pieces:
            self.begin = int(events.t[0])
        self.pieces.append(events)
        if int(events.t[-1]) < self.begin + self.duration_us:
            return
        kept = concat(self.pieces)
        while self.begin + self.duration_us <= int(kept.t[-1]):
            stop = self.begin + self.duration_us
            count = int(kept.index(stop))
            window, kept = Window(kept[:count], self.begin, stop), kept[count:]
            self.begin, self.pieces = stop, [kept]
            yield window

    def rest(self) -> Iterator[Window]:
        if self.pieces:
            yield Window(concat(self.pieces), self.begin, self.begin + self.duration_us)
        self.pieces = []


@dataclass(frozen=True)
class ByCount(Windows):
    """Windows of ``events`` events, from the first to the last one's time; what is left at the end is left out.

    ``frames``: exactly so many; what comes later is left out, a shorter recording goes on in empty windows.
    """

    look_ahead: ClassVar[bool] = False
    events: Positive = 1000
    frames: Positive | None = None

    def spans(self, events: EventStream) -> Spans:
        full = len(events) // self.events
        count = full if self.frames is None else self.frames
        knots = np.minimum(np.arange(count + 1, dtype=np.int64), full) * self.events
        return _timed(events, knots)

    def cutter(self) -> Cutter:
        return _CountCutter(self.events)


class _CountCutter(Cutter):
    def __init__(self, count: int) -> None:
        self.count = count
        self.pieces: list[EventStream] = []

    def push(self, events: EventStream) -> Iterator[Window]:
        self.pieces.append(events)
        if sum(map(len, self.pieces)) < self.count:
            return
        kept = concat(self.pieces)
        while len(kept) >= self.count:
            whole, kept = kept[: self.count], kept[self.count :]
            self.pieces = [kept]
            yield Window(whole, int(whole.t[0]), int(whole.t[-1]))

    def rest(self) -> Iterator[Window]:
        return iter(())


@dataclass(frozen=True)
class AtStamps(Windows):
    """Half-open windows between stamps from outside, such as those of a camera's frames: n stamps give n - 1 windows.

    ``parts``: each is split into so many of equal duration (to the microsecond, rounded down).
    """

    stamps_us: tuple[int, ...] = ()
    parts: Positive = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        back = first_backward(np.array(self.stamps_us, np.int64))
        if back is not None:
            raise ValueError(f"stamps_us: stamp {back} runs back from {self.stamps_us[back - 1]}")

    def spans(self, events: EventStream) -> Spans:
        stamps = np.array(self.stamps_us, np.int64)
        if len(stamps) < 2:
            raise ValueError(f"stamps_us: two stamps make a window, got {len(stamps)}")
        inside = np.arange(self.parts)
        knots = (stamps[:-1, None] + np.diff(stamps)[:, None] * inside // self.parts).ravel()
        return between(events, np.append(knots, stamps[-1]))


@dataclass(frozen=True)
class EqualTime(Windows):
    """``frames`` windows of equal duration, (last - first) // frames microseconds; the last one takes the rest."""

    frames: Positive = 10

    def spans(self, events: EventStream) -> Spans:
        begin = int(events.t[0]) if len(events) else 0
        knots = begin + events.duration_us // self.frames * np.arange(self.frames + 1, dtype=np.int64)
        knots[-1] = begin + events.duration_us + 1
        return between(events, knots)


@dataclass(frozen=True)
class EqualCount(Windows):
    """``frames`` windows of N // frames events each; the last takes the remainder (Fang et al. 2021, as SynA and SMA do).

    Raises ValueError for a recording of fewer events than frames.
    """

    frames: Positive = 10

    def spans(self, events: EventStream) -> Spans:
        if len(events) < self.frames:
            raise ValueError(f"{len(events)} events cannot fill {self.frames} frames")
        knots = len(events) // self.frames * np.arange(self.frames + 1, dtype=np.int64)
        knots[-1] = len(events)
        return _timed(events, knots)


WINDOWS.register("time", ByTime())
WINDOWS.register("count", ByCount())
WINDOWS.register("stamps", AtStamps())
WINDOWS.register("equal_time", EqualTime())
WINDOWS.register("equal_count", EqualCount())


def between(events: EventStream, knots_us: NDArray[np.int64]) -> Spans:
    """Spans of the half-open windows between stamps that do not run back."""
    at = events.index(knots_us)
    return np.stack([at[:-1], at[1:], knots_us[:-1], knots_us[1:]], 1).astype(np.int64)


def _timed(events: EventStream, knots: NDArray[np.int64]) -> Spans:
    """Spans of the windows between numbers of events: from the first event's time to the last one's."""
    if not len(events):
        return np.zeros((len(knots) - 1, 4), np.int64)
    most = len(events) - 1
    start = events.t[np.minimum(knots[:-1], most)]
    stop = events.t[np.clip(knots[1:] - 1, 0, most)]
    return np.stack([knots[:-1], knots[1:], start, np.maximum(start, stop)], 1)
