"""Prophesee EVT 3.0: words of 16 bits that change a state (row, time, first pixel of a vector)."""

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

WORTH = 5  # events of a run from which a vector of four words is shorter


def sniff(path: Path, head: bytes) -> int:
    return CERTAIN if prophesee.version_of(head) == "3.0" else NO


def read(source: Source) -> Iterator[Columns]:
    yield from decode(source, "evt3", prophesee.begin(source, "3.0").end)


def write(path: Path, streams: Iterable[EventStream], height: int, width: int) -> None:
    """Rows and times are said where they change; runs of five events and more in 32 columns go as vectors."""
    fits("evt3", height, width, 2048, 2048)
    upper, time, row = -1, -1, -1
    with path.open("wb") as file:
        file.write(prophesee.header("3.0", height, width))
        for events in streams:
            times_fit("evt3", events, 62)
            if not len(events):
                continue
            counts, said = steps("evt3", events.t >> 12, upper, 12)
            low = np.concatenate([[time], events.t[:-1]]) != events.t
            y = np.concatenate([[row], events.y[:-1].astype(np.int64)]) != events.y
            pieces = [
                (counts, (8 << 12 | said & 0xFFF).astype(np.uint16)),
                (low, (6 << 12 | events.t[low] & 0xFFF).astype(np.uint16)),
                (y, events.y[y]),
                *_places(events),
            ]
            file.write(laid(pieces, "<u2").tobytes())
            upper, time, row = int(events.t[-1] >> 12), int(events.t[-1]), int(events.y[-1])


def _places(events: EventStream) -> list[tuple[np.ndarray, np.ndarray]]:
    """Words of single events, and of vectors at the first event of their run."""
    first, bits = runs(events)
    sizes = np.diff(first, append=len(events))
    vector = sizes >= WORTH
    single = np.repeat(~vector, sizes)
    x = events.x | events.p.astype(np.uint16) << 11
    words = 2 << 12 | x[single]
    head, bits = first[vector], bits[vector]
    base = 3 << 12 | events.p[head].astype(np.uint16) << 11 | events.x[head] & 0x7E0
    masks = [4 << 12 | bits & 0xFFF, 4 << 12 | bits >> 12 & 0xFFF, 5 << 12 | bits >> 24]
    here = np.zeros(len(events), np.int64)
    here[head] = 4
    return [(single, words), (here, np.stack([base, *masks], 1).astype(np.uint16).ravel())]


FORMATS.register("evt3", Format("evt3", "Prophesee EVT 3.0", (".raw",), sniff, read, write, preferred=1))
