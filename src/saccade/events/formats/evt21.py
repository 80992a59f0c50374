"""Prophesee EVT 2.1: a word of 64 bits for up to 32 events of one row, and words for the upper bits of the time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from saccade.events import prophesee
from saccade.events.decoding import decode
from saccade.events.encoding import fits, laid, runs, steps, times_fit
from saccade.events.format import CERTAIN, FORMATS, NO, Format
from saccade.events.source import Columns, Source
from saccade.events.stream import EventStream

KINDS = (0, 1, 8, 0xA, 0xE)


def sniff(path: Path, head: bytes) -> int:
    return CERTAIN if prophesee.version_of(head) == "2.1" else NO


def read(source: Source) -> Iterator[Columns]:
    header = prophesee.begin(source, "2.1")
    order = header.option("endianness") or header.values.get("endianness", "")
    halves = order == "legacy" if order in ("legacy", "little") else _halves(source, header.end)
    yield from decode(source, "evt21_halves" if halves else "evt21", header.end)


def _halves(source: Source, begin: int) -> bool:
    """Whether the upper half of a word comes first, where the header does not say: which of them holds kinds of words."""
    words = np.frombuffer(source.data[begin : begin + 8 * 4096].tobytes()[: (len(source.data) - begin) // 8 * 8], "<u4")
    upper_first, upper_last = words[0::2] >> 28, words[1::2] >> 28
    known = [int(np.isin(kinds, KINDS).sum()) for kinds in (upper_first, upper_last)]
    times = [int((kinds == 8).sum()) for kinds in (upper_first, upper_last)]
    return (known[0], times[0]) > (known[1], times[1])


def write(path: Path, streams: Iterable[EventStream], height: int, width: int) -> None:
    """The upper half of each word first, as most cameras send it and most readers take it."""
    fits("evt21", height, width, 2048, 2048)
    before = -1
    with path.open("wb") as file:
        file.write(prophesee.header("2.1", height, width, "endianness=legacy;"))
        for events in streams:
            times_fit("evt21", events, 62)
            first, bits = runs(events)
            if not len(first):
                continue
            t = events.t[first]
            counts, said = steps("evt21", t >> 6, before, 28)
            time = (8 << 28 | said & 0x0FFFFFFF).astype(np.uint64)
            upper = events.p[first].astype(np.uint32) << 28 | (t & 63).astype(np.uint32) << 22
            upper |= (events.x[first] & 0x7E0).astype(np.uint32) << 11 | events.y[first]
            word = upper.astype(np.uint64) | bits.astype(np.uint64) << np.uint64(32)
            file.write(laid([(counts, time), (np.ones(len(first), np.int64), word)], "<u8").tobytes())
            before = int(t[-1] >> 6)


FORMATS.register("evt21", Format("evt21", "Prophesee EVT 2.1", (".raw",), sniff, read, write))
