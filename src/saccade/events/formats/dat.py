"""Prophesee DAT, version 2 (N-CARS, the GEN1 and 1 Mpx sets): eight bytes an event."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from saccade.events import prophesee
from saccade.events.decoding import decode
from saccade.events.encoding import fits, times_fit
from saccade.events.format import CERTAIN, FORMATS, NO, Format
from saccade.events.source import Columns, Source
from saccade.events.stream import EventStream

KINDS = (0, 12)  # 2D and CD: both hold brightness changes
SIZE = 8


def sniff(path: Path, head: bytes) -> int:
    return CERTAIN if head[:1] == b"%" and prophesee.read_header(head).values.get("data", "").startswith("file") else NO


def read(source: Source) -> Iterator[Columns]:
    header = prophesee.read_header(source.head())
    if header.version or not header.values.get("data", "").startswith("file"):
        raise source.faults.error("header", "is not that of a DAT file")
    version = header.values.get("version", "")
    if version != "2":
        raise source.faults.error("header", f"names version {version or 'no'} of DAT; version 2 is read")
    size = header.sensor()
    if size:
        source.sensor(*size)
    kind = source.data[header.end : header.end + 2].tolist()
    if len(kind) < 2 or kind[0] not in KINDS or kind[1] != SIZE:
        words = f"events of type and size {kind}; types {KINDS} of {SIZE} bytes are read"
        raise source.faults.error(header.end, words)
    yield from decode(source, "dat", header.end + 2)


def write(path: Path, streams: Iterable[EventStream], height: int, width: int) -> None:
    fits("dat", height, width, 1 << 14, 1 << 14)
    with path.open("wb") as file:
        lines = ("Data file containing CD events", "Version 2", f"Width {width}", f"Height {height}")
        file.write("".join(f"% {line}\n" for line in lines).encode() + bytes((KINDS[1], SIZE)))
        for events in streams:
            times_fit("dat", events, 32)
            place = events.x.astype(np.uint32) | events.y.astype(np.uint32) << 14 | events.p.astype(np.uint32) << 28
            file.write(np.stack([events.t.astype(np.uint32), place], 1).astype("<u4").tobytes())


FORMATS.register("dat", Format("dat", "Prophesee DAT", (".dat",), sniff, read, write))
