"""The layouts of events in plain NumPy: what the native decoders (native/events_kernels.cpp) are equal to.

Each function takes whole bytes ``[begin, end)`` of a uint8 array and the state that goes from piece to piece, and returns the
events of all complete words, unchecked: ``Found``. Words that are wrong are listed and give no event.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.events import faults

Bytes = NDArray[np.uint8]
State = NDArray[np.int64]
Ints = NDArray[Any]


@dataclass
class Found:
    """Columns, the byte of each event's word, the byte after the last complete word, what was wrong: (byte, kind, value)."""

    t: Ints
    x: Ints
    y: Ints
    p: Ints
    byte: Ints
    consumed: int
    wrong: list[tuple[int, str, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Layout:
    """number: the native decoder's (native/events.h). unit: bytes of a word. most: events of a word, at most."""

    name: str
    number: int
    unit: int
    most: int
    decode: Callable[[Bytes, int, int, State, int, int], Found]


def _words(data: Bytes, begin: int, end: int, dtype: str) -> tuple[Ints, Ints, int]:
    size = np.dtype(dtype).itemsize
    count = (end - begin) // size
    words = np.frombuffer(data[begin : begin + count * size].tobytes(), dtype)
    return words, begin + size * np.arange(count, dtype=np.int64), begin + count * size


def _held(values: Ints, change: NDArray[np.bool_], first: int) -> tuple[Ints, int]:
    """The value of the latest word, up to and with this one, that changed it; ``first`` before any did. And the last."""
    where = np.maximum.accumulate(np.where(change, np.arange(1, len(values) + 1), 0))
    held = np.concatenate([[first], values.astype(np.int64)])[where]
    return held, int(held[-1]) if len(held) else first


def _loops(high: Ints, change: NDArray[np.bool_], before: int, half: int, loops: int) -> Ints:
    """How often a counter has wrapped at each word: where it falls by more than half its range."""
    values = high[change].astype(np.int64)
    wraps = np.diff(values, prepend=before if before >= 0 else values[:1] if len(values) else 0) < -half
    count = np.zeros(len(high), np.int64)
    count[change] = wraps
    return loops + np.cumsum(count)


def _reserved(kinds: Ints, byte: Ints, known: str) -> list[tuple[int, str, int]]:
    bad = ~np.isin(kinds, [int(letter, 16) for letter in known])
    return [(int(b), faults.RESERVED, int(k)) for b, k in zip(byte[bad], kinds[bad], strict=True)]


def _evt2_time(kinds: Ints, payload: Ints, state: State) -> tuple[Ints, NDArray[np.bool_]]:
    """Time without the low six bits at each word, and whether there is one."""
    change = kinds == 8
    loops = _loops(payload, change, int(state[1]) if state[3] else -1, 1 << 27, int(state[2]))
    high, last = _held(payload, change, int(state[1]))
    dated = np.maximum.accumulate(change) | bool(state[3])
    if len(kinds):
        state[1], state[2], state[3] = last, loops[-1], dated[-1]
    return (loops << 34) + (high << 6), dated


def evt2(data: Bytes, begin: int, end: int, state: State, width: int, height: int) -> Found:
    words, byte, consumed = _words(data, begin, end, "<u4")
    kinds = words >> 28
    time, dated = _evt2_time(kinds, words & 0x0FFFFFFF, state)
    wrong = _reserved(kinds, byte, "018AEF")
    event = (kinds < 2) & dated
    wrong += [(int(b), faults.NO_TIME, 0) for b in byte[(kinds < 2) & ~dated]]
    w = words[event]
    t = time[event] + (w >> 22 & 63)
    return Found(t, w >> 11 & 0x7FF, w & 0x7FF, w >> 28, byte[event], consumed, wrong)


def _evt21(data: Bytes, begin: int, end: int, state: State, halves: bool) -> Found:
    words, byte, consumed = _words(data, begin, end, "<u8")
    if halves:
        words = words << np.uint64(32) | words >> np.uint64(32)
    upper, mask = (words >> np.uint64(32)).astype(np.uint32), words.astype(np.uint32)
    kinds = upper >> 28
    time, dated = _evt2_time(kinds, upper & 0x0FFFFFFF, state)
    wrong = _reserved(kinds, byte, "018AEF")
    wrong += [(int(b), faults.NO_TIME, 0) for b in byte[(kinds < 2) & ~dated]]
    event = (kinds < 2) & dated
    word, bit = np.nonzero((mask[event, None] >> np.arange(32, dtype=np.uint32)) & 1)
    u = upper[event][word]
    t = time[event][word] + (u >> 22 & 63)
    return Found(t, (u >> 11 & 0x7FF) + bit, u & 0x7FF, u >> 28, byte[event][word], consumed, wrong)


def evt21(data: Bytes, begin: int, end: int, state: State, width: int, height: int) -> Found:
    return _evt21(data, begin, end, state, False)


def evt21_halves(data: Bytes, begin: int, end: int, state: State, width: int, height: int) -> Found:
    return _evt21(data, begin, end, state, True)


def evt3(data: Bytes, begin: int, end: int, state: State, width: int, height: int) -> Found:
    words, byte, consumed = _words(data, begin, end, "<u2")
    kinds, payload = words >> 12, (words & 0xFFF).astype(np.int64)
    start = int(state[1])  # without the lower twelve bits
    change = kinds == 8
    loops = _loops(payload, change, start >> 12 & 0xFFF if start >= 0 else -1, 1 << 11, max(start, 0) >> 24)
    high, _ = _held(payload, change, start >> 12 & 0xFFF if start >= 0 else 0)
    dated = np.maximum.accumulate(change) | (start >= 0)
    time = (loops << 24) + (high << 12)
    # a TIME_HIGH that says something new sets the lower bits to 0
    new = change & (np.concatenate([[start], np.where(dated, time, -1)[:-1]]) != time) if len(words) else change
    low, state[2] = _held(np.where(new, 0, payload), new | (kinds == 6), int(state[2]))
    y, state[3] = _held(payload & 0x7FF, kinds == 0, int(state[3]))
    # the first pixel of a vector: of the last VECT_BASE, and what vectors since then have passed
    vector, based = (kinds == 4) | (kinds == 5), kinds == 3
    has_base = np.maximum.accumulate(based) | bool(state[6])
    taken = vector & has_base & dated
    passed = np.cumsum(np.where(taken, np.where(kinds == 4, 12, 8), 0))
    base, _ = _held((payload & 0x7FF) - passed, based, int(state[4]))
    base = base + passed
    polarity, state[5] = _held(payload >> 11, based, int(state[5]))
    if len(words):
        state[4], state[6] = base[-1], has_base[-1]
        state[1] = time[-1] if dated[-1] else -1
    wrong = _reserved(kinds, byte, "02345678AEF7")
    for bad, kind in ((vector & ~has_base, faults.NO_BASE), (vector & has_base & ~dated, faults.NO_TIME)):
        wrong += [(int(b), kind, 0) for b in byte[bad]]
    wrong += [(int(b), faults.NO_TIME, 0) for b in byte[(kinds == 2) & ~dated]]
    bits = np.zeros((len(words), 12), bool)
    bits[(kinds == 2) & dated, 0] = True
    masks = np.where(kinds[taken] == 4, payload[taken], payload[taken] & 0xFF)
    bits[taken] = masks[:, None] >> np.arange(12) & 1
    word, bit = np.nonzero(bits)
    single = kinds[word] == 2
    x = np.where(single, payload[word] & 0x7FF, base[word] - np.where(kinds[word] == 4, 12, 8) + bit & 0xFFFF)
    p = np.where(single, payload[word] >> 11, polarity[word])
    return Found(time[word] + low[word], x, y[word], p, byte[word], consumed, wrong)


def _wrapping(t: Ints, state: State) -> Ints:
    """32 bits of time that wrap where they fall by more than half their range."""
    loops = _loops(t, np.ones(len(t), bool), int(state[2]), 1 << 31, int(state[1]))
    if len(t):
        state[1], state[2] = loops[-1], t[-1]
    return (loops << 32) + t


def dat(data: Bytes, begin: int, end: int, state: State, width: int, height: int) -> Found:
    words, byte, consumed = _words(data, begin, end, "<u8")
    place = (words >> np.uint64(32)).astype(np.uint32)
    t = _wrapping((words & np.uint64(0xFFFFFFFF)).astype(np.int64), state)
    return Found(t, place & 0x3FFF, place >> 14 & 0x3FFF, (place >> 28 != 0).astype(np.uint8), byte, consumed)


def _records(data: Bytes, begin: int, end: int, fields: list[tuple[str, str]], size: int) -> tuple[Any, Ints, int]:
    names, formats = zip(*fields, strict=True)
    offsets = np.cumsum([0] + [np.dtype(f).itemsize for f in formats[:-1]]).tolist()
    dtype = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})
    count = (end - begin) // size
    records = np.frombuffer(data[begin : begin + count * size].tobytes(), dtype)
    return records, begin + size * np.arange(count, dtype=np.int64), begin + size * count


def bs2(data: Bytes, begin: int, end: int, state: State, width: int, height: int) -> Found:
    fields = [(name, "u1") for name in ("x", "y", "a", "b", "c")]
    r, byte, consumed = _records(data, begin, end, fields, 5)
    mark = r["y"] == 240
    more = int(state[1]) + np.cumsum(np.where(mark, 1 << 13, 0))
    state[1] = more[-1] if len(more) else state[1]
    r, byte, more = r[~mark], byte[~mark], more[~mark]
    time = (r["a"].astype(np.int64) & 0x7F) << 16 | r["b"].astype(np.int64) << 8 | r["c"]
    return Found(more + time, r["x"], r["y"], r["a"] >> 7, byte, consumed)


def dvs128(data: Bytes, begin: int, end: int, state: State, width: int, height: int) -> Found:
    r, byte, consumed = _records(data, begin, end, [("a", ">u4"), ("t", ">u4")], 8)
    other = r["a"] >> 16 != 0
    wrong = [(int(b), faults.RESERVED, int(a)) for b, a in zip(byte[other], r["a"][other], strict=True)]
    event = ~other & (r["a"] & 0x8000 == 0)
    a, byte = r["a"][event].astype(np.int64), byte[event]
    t = _wrapping(r["t"][event].astype(np.int64), state)
    return Found(t, 127 - (a >> 1 & 0x7F), 127 - (a >> 8 & 0x7F), 1 - (a & 1), byte, consumed, wrong)


def davis(data: Bytes, begin: int, end: int, state: State, width: int, height: int) -> Found:
    r, byte, consumed = _records(data, begin, end, [("a", ">u4"), ("t", ">u4")], 8)
    event = r["a"] & 0x80000400 == 0
    a, byte = r["a"][event].astype(np.int64), byte[event]
    t = _wrapping(r["t"][event].astype(np.int64), state)
    return Found(t, width - 1 - (a >> 12 & 0x3FF), height - 1 - (a >> 22 & 0x1FF), a >> 11 & 1, byte, consumed)


def aedat3(data: Bytes, begin: int, end: int, state: State, width: int, height: int) -> Found:
    r, byte, consumed = _records(data, begin, end, [("a", "<u4"), ("t", "<i4")], 8)
    event = r["a"] & 1 == 1
    a, t, byte = r["a"][event], r["t"][event].astype(np.int64), byte[event]
    return Found(int(state[1]) + t, a >> 17, a >> 2 & 0x7FFF, a >> 1 & 1, byte, consumed)


def dv(data: Bytes, begin: int, end: int, state: State, width: int, height: int) -> Found:
    r, byte, consumed = _records(data, begin, end, [("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")], 16)
    return Found(r["t"], r["x"], r["y"], r["p"] != 0, byte, consumed)


def ros_events(data: Bytes, begin: int, end: int, state: State, width: int, height: int) -> Found:
    fields = [("x", "<u2"), ("y", "<u2"), ("s", "<u4"), ("ns", "<u4"), ("p", "u1")]
    r, byte, consumed = _records(data, begin, end, fields, 13)
    t = r["s"].astype(np.int64) * 1_000_000 + r["ns"] // 1000
    return Found(t, r["x"], r["y"], r["p"] != 0, byte, consumed)


def ros_mono(data: Bytes, begin: int, end: int, state: State, width: int, height: int) -> Found:
    r, byte, consumed = _records(data, begin, end, [("dt", "<u4"), ("x", "<u2"), ("y", "<u2")], 8)
    t = ((np.uint64(state[1]) + r["dt"].astype(np.uint64)) // np.uint64(1000)).astype(np.int64)
    return Found(t, r["x"], r["y"] & 0x7FFF, r["y"] >> 15, byte, consumed)


def table(data: Bytes, begin: int, end: int, state: State, width: int, height: int) -> Found:
    r, byte, consumed = _records(data, begin, end, [("x", "<u2"), ("y", "<u2"), ("p", "<u2"), ("t", "<i8")], 14)
    bad = r["p"] > 1
    wrong = [(int(b), faults.POLARITY, int(p)) for b, p in zip(byte[bad], r["p"][bad].astype(np.int16), strict=True)]
    r, byte = r[~bad], byte[~bad]
    return Found(r["t"], r["x"], r["y"], r["p"], byte, consumed, wrong)


def _es(data: Bytes, begin: int, end: int, state: State, height: int, atis: bool) -> Found:
    now, at = int(state[1]), begin
    rows: list[tuple[int, int, int, int, int]] = []
    first = 0xFC if atis else 0xFE
    content = data[:end].tobytes()
    while at < end:
        b = content[at]
        if b >= first:
            now += 63 * (b & 3) if atis else 127 * (b & 1)
            at += 1
            continue
        if at + 5 > end:
            break
        now += b >> 2 if atis else b >> 1
        x, y = content[at + 1] | content[at + 2] << 8, content[at + 3] | content[at + 4] << 8
        if not (atis and b & 1):
            rows.append((now, x, (height - 1 - y) & 0xFFFF, b >> 1 & 1 if atis else b & 1, at))
        at += 5
    state[1] = now
    table = np.array(rows, np.int64).reshape(-1, 5).T
    return Found(table[0], table[1], table[2], table[3], table[4], at)


def es_dvs(data: Bytes, begin: int, end: int, state: State, width: int, height: int) -> Found:
    return _es(data, begin, end, state, height, False)


def es_atis(data: Bytes, begin: int, end: int, state: State, width: int, height: int) -> Found:
    return _es(data, begin, end, state, height, True)


_NATIVE_ORDER = (
    (evt2, 4, 1),
    (evt21, 8, 32),
    (evt21_halves, 8, 32),
    (evt3, 2, 12),
    (dat, 8, 1),
    (bs2, 5, 1),
    (dvs128, 8, 1),
    (davis, 8, 1),
    (aedat3, 8, 1),
    (dv, 16, 1),
    (es_dvs, 5, 1),
    (es_atis, 5, 1),
    (ros_events, 13, 1),
    (ros_mono, 8, 1),
    (table, 14, 1),
)
LAYOUTS = {f.__name__: Layout(f.__name__, i, unit, most, f) for i, (f, unit, most) in enumerate(_NATIVE_ORDER)}
