"""A recording of an event camera in memory, or mapped from a file: columns of time, place and polarity."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MOST_PIXELS = 1 << 16  # a side: x and y are uint16


@dataclass(frozen=True, eq=False)
class EventStream:
    """Events in the order in which the sensor sent them; times never run back.

    t: int64 ``[N]``, microseconds. x, y: uint16 ``[N]``, column and row from the top left. p: uint8 ``[N]``, 1 brighter (on),
    0 darker (off). height, width: the sensor, in pixels. The columns are NumPy arrays or memory maps; other integer types
    are converted.

    ``check=False`` leaves the columns unread, for maps of files larger than memory; every slice of such a stream is checked
    when it is made. Raises ValueError for columns that differ in length, are not integers, leave the sensor, hold another
    polarity than 0 and 1, or run back in time.
    """

    t: NDArray[np.int64]
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    p: NDArray[np.uint8]
    height: int
    width: int
    check: InitVar[bool] = True
    checked: bool = field(init=False, default=False)

    def __post_init__(self, check: bool) -> None:
        for name in ("height", "width"):
            side = getattr(self, name)
            if isinstance(side, bool) or not isinstance(side, int | np.integer) or not 1 <= side <= MOST_PIXELS:
                raise ValueError(f"{name} is a number of pixels from 1 to {MOST_PIXELS}, got {side!r}")
            object.__setattr__(self, name, int(side))
        columns = {name: np.asanyarray(getattr(self, name)) for name in ("t", "x", "y", "p")}
        if any(column.ndim != 1 for column in columns.values()) or len({len(c) for c in columns.values()}) != 1:
            raise ValueError(f"t, x, y and p are columns of one length, got {[c.shape for c in columns.values()]}")
        wanted = (
            ("t", np.int64, None),
            ("x", np.uint16, self.width),
            ("y", np.uint16, self.height),
            ("p", np.uint8, 2),
        )
        for name, dtype, end in wanted:
            column = columns[name]
            if column.dtype.kind not in "iub":
                raise ValueError(f"{name} holds integers, got {column.dtype}")
            if check and end is not None:
                _within(name, column, end)
            if column.dtype != dtype:
                same_bytes = column.dtype == np.bool_ and dtype == np.uint8
                column = column.view(np.uint8) if same_bytes else column.astype(dtype)
            object.__setattr__(self, name, column)
        if check:
            back = first_backward(self.t)
            if back is not None:
                raise ValueError(f"event {back}: time runs back from {self.t[back - 1]} to {self.t[back]} us")
        object.__setattr__(self, "checked", check)

    def __len__(self) -> int:
        return len(self.t)

    def __repr__(self) -> str:
        span = f", {self.t[0]} to {self.t[-1]} us" if len(self) else ""
        return f"EventStream({len(self):,} events{span}, {self.width} x {self.height})"

    def __getitem__(self, which: slice) -> EventStream:
        """Events ``stream[a:b]``, as views. Steps other than 1 and single numbers are refused: columns are for those."""
        if not isinstance(which, slice) or which.step not in (None, 1):
            raise ValueError(f"a stream is cut as stream[a:b], got {which!r}")
        columns = (self.t[which], self.x[which], self.y[which], self.p[which])
        if not self.checked:
            return EventStream(*columns, self.height, self.width)
        return EventStream.trusted(*columns, self.height, self.width)

    @classmethod
    def trusted(cls, t: Any, x: Any, y: Any, p: Any, height: int, width: int) -> EventStream:
        """Columns of the right types that were checked where they came from, taken without looking at them again."""
        stream = object.__new__(cls)
        values = (t, x, y, p, height, width, True)
        for name, value in zip(("t", "x", "y", "p", "height", "width", "checked"), values, strict=True):
            object.__setattr__(stream, name, value)
        return stream

    @property
    def duration_us(self) -> int:
        """From the first event to the last, microseconds; 0 for an empty stream."""
        return int(self.t[-1]) - int(self.t[0]) if len(self) else 0

    @property
    def nbytes(self) -> int:
        """What the columns take: 13 bytes an event."""
        return self.t.nbytes + self.x.nbytes + self.y.nbytes + self.p.nbytes

    def equal(self, other: EventStream) -> bool:
        """Whether both hold the same events in the same order on sensors of the same size."""
        return (self.height, self.width) == (other.height, other.width) and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in ("t", "x", "y", "p")
        )

    def index(self, stamps_us: ArrayLike) -> NDArray[np.int64]:
        """For each stamp, the number of events before it, by bisection."""
        return np.searchsorted(self.t, np.asarray(stamps_us, np.int64), side="left")

    def between(self, start_us: int, stop_us: int) -> EventStream:
        """Events with start_us <= t < stop_us, found by bisection. Raises ValueError if stop_us lies before start_us."""
        if stop_us < start_us:
            raise ValueError(f"a window ends at {stop_us} us, before it starts at {start_us} us")
        least, most = -(2**63), 2**63 - 1
        first, last = self.index([int(min(max(stamp, least), most)) for stamp in (start_us, stop_us)])
        return self[first:last]

    def by_count(self, count: int, incomplete: bool = False) -> Iterator[EventStream]:
        """Windows of ``count`` events, one after the other; the rest is left out unless ``incomplete``."""
        if count < 1:
            raise ValueError(f"a window holds at least one event, got {count}")
        end = len(self) if incomplete else len(self) // count * count
        return (self[first : min(first + count, end)] for first in range(0, end, count))

    def by_duration(
        self, duration_us: int, start_us: int | None = None, incomplete: bool = True
    ) -> Iterator[EventStream]:
        """Half-open windows of ``duration_us`` from ``start_us`` (default: the first event), empty ones included.

        The last one holds the last event; the recording may end before it does, and ``incomplete=False`` leaves it out.
        """
        if duration_us < 1:
            raise ValueError(f"a window lasts at least 1 us, got {duration_us}")
        if not len(self):
            return iter(())
        begin = int(self.t[0]) if start_us is None else int(start_us)
        windows = (int(self.t[-1]) - begin) // duration_us + int(incomplete)
        return (self.between(begin + i * duration_us, begin + (i + 1) * duration_us) for i in range(max(windows, 0)))

    def slices_at(self, stamps_us: Sequence[int] | NDArray[Any]) -> list[EventStream]:
        """Windows between stamps from outside, such as those of frames: n stamps give n - 1 half-open windows.

        Raises ValueError for stamps that run back.
        """
        stamps = np.asarray(stamps_us)
        if stamps.ndim != 1 or stamps.dtype.kind not in "iu":
            raise ValueError(f"stamps are a list of integers, microseconds, got {stamps.dtype} of shape {stamps.shape}")
        back = first_backward(stamps)
        if back is not None:
            raise ValueError(f"stamp {back}: runs back from {stamps[back - 1]} to {stamps[back]} us")
        knots = self.index(stamps)
        return [self[first:last] for first, last in itertools.pairwise(knots)]


def concat(streams: Iterable[EventStream]) -> EventStream:
    """One stream after the other. Raises ValueError for none, other sensors, or one that starts before the last ends."""
    parts = list(streams)
    if not parts:
        raise ValueError("there is no stream to put together")
    sizes = {(part.height, part.width) for part in parts}
    if len(sizes) > 1:
        raise ValueError(f"streams of sensors of one size go together, got {sorted(sizes)} (height, width)")
    t, x, y, p = (np.concatenate([getattr(part, name) for part in parts]) for name in ("t", "x", "y", "p"))
    return EventStream(t, x, y, p, parts[0].height, parts[0].width)


def first_backward(t: NDArray[Any]) -> int | None:
    """The first event that is earlier than the one before it; None if there is none. Looks at pieces: no copy of the column."""
    for first in range(0, len(t) - 1, 1 << 16):
        piece = t[first : first + (1 << 16) + 1]
        back = piece[1:] < piece[:-1]
        if back.any():
            return first + int(back.argmax()) + 1
    return None


def _within(name: str, column: NDArray[Any], end: int) -> None:
    """Raises ValueError, naming the first, for values outside ``0..end - 1``."""
    if not len(column) or (int(column.min()) >= 0 and int(column.max()) < end):
        return
    wrong = int(((column < 0) | (column >= end)).argmax())
    raise ValueError(f"event {wrong}: {name} = {int(column[wrong])} is outside 0..{end - 1}")
