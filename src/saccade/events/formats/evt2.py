"""Prophesee EVT 2.0: a word of 32 bits an event, and words for the upper bits of the time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from saccade.events import prophesee
from saccade.events.decoding import decode
from saccade.events.encoding import fits, laid, steps, times_fit
from saccade.events.format import CERTAIN, FORMATS, NO, Format
from saccade.events.source import Columns, Source
from saccade.events.stream import EventStream


def sniff(path: Path, head: bytes) -> int:
    return CERTAIN if prophesee.version_of(head) == "2.0" else NO


def read(source: Source) -> Iterator[Columns]:
    yield from decode(source, "evt2", prophesee.begin(source, "2.0").end)


def write(path: Path, streams: Iterable[EventStream], height: int, width: int) -> None:
    fits("evt2", height, width, 2048, 2048)
    before = -1
    with path.open("wb") as file:
        file.write(prophesee.header("2.0", height, width))
        for events in streams:
            times_fit("evt2", events, 62)
            if not len(events):
                continue
            upper = events.t >> 6
            counts, said = steps("evt2", upper, before, 28)
            time = (8 << 28 | said & 0x0FFFFFFF).astype(np.uint32)
            word = events.p.astype(np.uint32) << 28 | (events.t & 63).astype(np.uint32) << 22
            word |= events.x.astype(np.uint32) << 11 | events.y
            file.write(laid([(counts, time), (np.ones(len(events), np.int64), word)], "<u4").tobytes())
            before = int(upper[-1])


FORMATS.register("evt2", Format("evt2", "Prophesee EVT 2.0", (".raw",), sniff, read, write))
