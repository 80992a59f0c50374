"""Bytes to checked columns: by the native decoders, or by plain NumPy where they were not built."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from saccade.events import faults
from saccade.events.plain import LAYOUTS, Layout, State
from saccade.events.source import BEGINNING, Columns, Source

try:
    from saccade import _native
except ImportError:  # a platform without a wheel, or a source tree that was never built
    _native = None  # type: ignore[assignment]

STATE = 8
Where = Callable[[int], int | str]


def fresh_state(layout: str, value: int = 0) -> State:
    """What a decoder starts from. value: the time that a packet's header adds, for layouts that have one."""
    state = np.zeros(STATE, np.int64)
    state[0] = BEGINNING
    state[1] = -1 if layout == "evt3" else value
    return state


def decode(
    source: Source,
    layout: str,
    begin: int,
    end: int | None = None,
    data: NDArray[np.uint8] | None = None,
    state: State | None = None,
    where: Where | None = None,
    native: bool = True,
    whole: Room | None = None,
) -> Iterator[Columns]:
    """Events of bytes ``[begin, end)`` of a file, or of ``data``; several columns where the source reads in parts.

    state: kept by the caller from packet to packet. where: the place in the file of a byte of ``data``, for messages.
    native: False runs the plain form. whole: columns to go on with, where the source reads in one go.

    Raises ValueError for the first fault unless the source is lenient.
    """
    data = source.data if data is None else data
    end = len(data) if end is None else end
    kind = LAYOUTS[layout]
    state = fresh_state(layout) if state is None else state
    step = _native_piece if native and _native is not None else _plain_piece
    place = where or _itself
    while begin < end:
        columns, consumed = step(source, kind, data, begin, end, state, place, whole)
        if len(columns[0]) or source.part is None:
            yield columns
        if consumed == begin:
            break
        begin = consumed
        if source.part is None:
            break
    if begin < end:
        words = f"ends in the middle of a word: {end - begin} bytes"
        source.faults.found(faults.UNFINISHED, place(begin), words)


def _itself(byte: int) -> int:
    return byte


_NONE = np.empty(0, np.uint8)


class Room:
    """Columns with room for more events; more is set aside than is likely to be needed, and memory comes when it is written."""

    def __init__(self, room: int) -> None:
        self.count = self.room = 0
        self.columns: Columns = (_NONE, _NONE, _NONE, _NONE)
        self._grow(room)

    def _grow(self, room: int) -> None:
        room = -(-room // 8) * 8  # so that every column begins at a multiple of its size
        whole = np.empty(13 * room, np.uint8)
        t, x, y = whole[: 8 * room].view(np.int64), *(whole[k * room : (k + 2) * room].view(np.uint16) for k in (8, 10))
        columns: Columns = (t, x, y, whole[12 * room :])
        for column, before in zip(columns, self.columns, strict=True):
            column[: self.count] = before[: self.count]
        self.columns, self.room, self._place = columns, room, whole.ctypes.data

    def take(self, count: int) -> tuple[int, int, int, int]:
        """The addresses of the columns' ends, where so many events fit now."""
        if self.count + count > self.room:
            self._grow(max(2 * self.room, self.count + count))
        n, room, place = self.count, self.room, self._place
        return place + 8 * n, place + 8 * room + 2 * n, place + 10 * room + 2 * n, place + 12 * room + n

    def filled(self, begin: int = 0) -> Columns:
        """The events from one on."""
        t, x, y, p = (column[begin : self.count] for column in self.columns)
        return t, x, y, p


class Packets:
    """Packets of one file, decoded one after the other, into columns that they share where the file is read in one go."""

    def __init__(self, source: Source, room: int) -> None:
        """room: how many events are likely in the whole file."""
        self.source, self.whole = source, None
        if source.part is None and _native is not None:
            self.whole = Room(max(room, 1))

    def decode(
        self, layout: str, data: NDArray[np.uint8], where: Where, state: State, begin: int = 0, end: int | None = None
    ) -> Iterator[Columns]:
        """As ``decode``; what goes into the shared columns comes with ``end``."""
        for columns in decode(self.source, layout, begin, end, data, state, where, whole=self.whole):
            if self.whole is None:
                yield columns

    def end(self) -> Iterator[Columns]:
        """All events of a file that is read in one go."""
        if self.whole is not None:
            yield self.whole.filled()


def _native_piece(
    source: Source,
    kind: Layout,
    data: NDArray[np.uint8],
    begin: int,
    end: int,
    state: State,
    where: Where,
    whole: Room | None,
) -> tuple[Columns, int]:
    address = data.ctypes.data
    count = source.part or _native.events_count(kind.number, address, begin, end)
    count = max(count, kind.most)
    out = Room(count) if whole is None else whole
    report = np.zeros(7 + 2 * len(faults.NUMBERED), np.int64)
    height, width = source.limits
    state[0] = source.last
    lenient = source.faults.lenient
    first = out.count
    t, x, y, p = out.take(count)
    asked = (width, height, lenient, report.ctypes.data)
    out.count += _native.events_decode(kind.number, address, begin, end, t, x, y, p, count, state.ctypes.data, *asked)
    numbers = report.tolist()
    consumed, fault, offset, a, b, most_x, most_y = numbers[:7]
    if fault:
        raise _error(source, fault, where(offset), a, b)
    source.last = int(state[0])
    source.most_x, source.most_y = max(source.most_x, most_x), max(source.most_y, most_y)
    dropped, firsts = numbers[7 : 7 + len(faults.NUMBERED)], numbers[7 + len(faults.NUMBERED) :]
    if any(dropped):
        for name, number, place in zip(faults.NUMBERED, dropped, firsts, strict=True):
            if number:
                source.faults.count(name, where(place), number)
    return out.filled(first), consumed


def _error(source: Source, fault: int, where: int | str, a: int, b: int) -> ValueError:
    kind = faults.NUMBERED[fault]
    return source.faults.error(where, f"{_words(source, kind, a, b)} (lenient leaves it out)")


def _words(source: Source, kind: str, a: int, b: int) -> str:
    if kind == faults.OUTSIDE:
        return source.outside(a, b)
    if kind == faults.BACKWARD:
        return source.backward(a, b)
    if kind == faults.RESERVED:
        return f"a word of kind {a:#x}, which the format does not have"
    if kind == faults.POLARITY:
        return f"polarity {a}; 0 and 1 are known"
    return kind


def _plain_piece(
    source: Source,
    kind: Layout,
    data: NDArray[np.uint8],
    begin: int,
    end: int,
    state: State,
    where: Where,
    whole: Room | None = None,
) -> tuple[Columns, int]:
    if source.part:
        end = min(end, begin + max(source.part // kind.most, 1) * kind.unit)
    height, width = source.limits
    found = kind.decode(data, begin, end, state, width, height)
    t, x, y, p = (np.asarray(c).astype(np.int64) for c in (found.t, found.x, found.y, found.p))
    x, y = x & 0xFFFF, y & 0xFFFF
    strict = not source.faults.lenient
    outside = (x >= width) | (y >= height)
    latest = np.maximum.accumulate(np.where(outside, BEGINNING, t)) if len(t) else t
    before = np.maximum(np.concatenate([[source.last], latest[:-1]]), source.last)[: len(t)]
    back = ~outside & (t < before)
    bad: list[tuple[int, str, int, int]] = [(byte, name, value, 0) for byte, name, value in found.wrong]
    for mask, name, first, second in ((outside, faults.OUTSIDE, x, y), (back, faults.BACKWARD, before, t)):
        rows = np.flatnonzero(mask)
        bad += [(int(found.byte[i]), name, int(first[i]), int(second[i])) for i in rows]
    for byte, name, a, b in sorted(bad, key=lambda one: one[0]):
        if strict and name != faults.NO_TIME:
            raise source.faults.error(where(byte), f"{_words(source, name, a, b)} (lenient leaves it out)")
        source.faults.count(name, where(byte))
    keep = ~outside & ~back
    t, x, y, p = t[keep], x[keep], y[keep], p[keep]
    if len(t):
        source.last = int(t[-1])
        source.most_x, source.most_y = max(source.most_x, int(x.max())), max(source.most_y, int(y.max()))
    return (t, x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8)), found.consumed
