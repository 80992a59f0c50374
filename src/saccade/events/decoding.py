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
) -> Iterator[Columns]:
    """Events of bytes ``[begin, end)`` of a file, or of ``data``; several columns where the source reads in parts.

    state: kept by the caller from packet to packet. where: the place in the file of a byte of ``data``, for messages.
    native: False runs the plain form. Raises ValueError for the first fault unless the source is lenient.
    """
    data = source.data if data is None else data
    end = len(data) if end is None else end
    kind = LAYOUTS[layout]
    state = fresh_state(layout) if state is None else state
    step = _native_piece if native and _native is not None else _plain_piece
    whole = where or (lambda byte: byte)
    while begin < end:
        columns, consumed = step(source, kind, data, begin, end, state, whole)
        if len(columns[0]) or source.part is None:
            yield columns
        if consumed == begin:
            break
        begin = consumed
        if source.part is None:
            break
    if begin < end:
        words = f"ends in the middle of a word: {end - begin} bytes"
        source.faults.found(faults.UNFINISHED, whole(begin), words)


def _native_piece(
    source: Source, kind: Layout, data: NDArray[np.uint8], begin: int, end: int, state: State, where: Where
) -> tuple[Columns, int]:
    address = data.ctypes.data
    room = source.part or _native.events_count(kind.number, address, begin, end)
    room = max(room, kind.most)
    t, x = np.empty(room, np.int64), np.empty(room, np.uint16)
    y, p = np.empty(room, np.uint16), np.empty(room, np.uint8)
    report = np.zeros(7 + 2 * len(faults.NUMBERED), np.int64)
    height, width = source.limits
    state[0] = source.last
    columns = (t.ctypes.data, x.ctypes.data, y.ctypes.data, p.ctypes.data)
    lenient = source.faults.lenient
    count = _native.events_decode(
        kind.number, address, begin, end, *columns, room, state.ctypes.data, width, height, lenient, report.ctypes.data
    )
    consumed, fault, offset, a, b, most_x, most_y = (int(value) for value in report[:7])
    if fault:
        raise _error(source, fault, where(offset), a, b)
    source.last = int(state[0])
    source.most_x, source.most_y = max(source.most_x, most_x), max(source.most_y, most_y)
    dropped = report[7:].reshape(2, -1)
    if dropped[0].any():
        for number, name in enumerate(faults.NUMBERED):
            if dropped[0, number]:
                source.faults.count(name, where(int(dropped[1, number])), int(dropped[0, number]))
    return (t[:count], x[:count], y[:count], p[:count]), consumed


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
    return kind


def _plain_piece(
    source: Source, kind: Layout, data: NDArray[np.uint8], begin: int, end: int, state: State, where: Where
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
