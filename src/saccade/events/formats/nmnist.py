"""N-MNIST, N-Caltech101 ``.bin`` and SLAYER ``.bs2``: five bytes an event and no header (Orchard et al. 2015)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from saccade.events.decoding import decode
from saccade.events.encoding import fits, times_fit
from saccade.events.format import FORMATS, LIKELY, NO, Format
from saccade.events.source import Columns, Source
from saccade.events.stream import EventStream

SUFFIXES = (".bs2", ".bin")
MARK = 240  # the row that says that 2^13 us more have passed


def sniff(path: Path, head: bytes) -> int:
    return LIKELY if path.suffix.lower() in SUFFIXES else NO


def read(source: Source) -> Iterator[Columns]:
    yield from decode(source, "bs2", 0)


def write(path: Path, streams: Iterable[EventStream], height: int, width: int) -> None:
    fits("nmnist", height, width, MARK, 256)
    with path.open("wb") as file:
        for events in streams:
            times_fit("nmnist", events, 23)
            t = events.t.astype(np.uint32)
            rows = [events.x, events.y, events.p.astype(np.uint32) << 7 | t >> 16, t >> 8 & 0xFF, t & 0xFF]
            file.write(np.stack([row.astype(np.uint8) for row in rows], 1).tobytes())


FORMATS.register("nmnist", Format("nmnist", "N-MNIST bin, SLAYER bs2", SUFFIXES, sniff, read, write))
