"""Event Stream 2 (``.es``): the time since the event before, then the pixel; rows count from below (Marcireau 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from saccade.events.decoding import decode
from saccade.events.encoding import laid, refuse
from saccade.events.format import CERTAIN, FORMATS, NO, Format
from saccade.events.source import Columns, Source
from saccade.events.stream import EventStream

MAGIC = b"Event Stream"
KINDS = ("generic", "dvs", "atis", "asynchronous display", "color")
MOST_IDLE = 1 << 26  # bytes that only let time pass


def sniff(path: Path, head: bytes) -> int:
    return CERTAIN if head.startswith(MAGIC) else NO


def read(source: Source) -> Iterator[Columns]:
    head = source.head(20)
    if not head.startswith(MAGIC) or len(head) < 16:
        raise source.faults.error("header", "is not that of an Event Stream")
    if head[12] != 2:
        raise source.faults.error(12, f"Event Stream version {head[12]}.{head[13]}.{head[14]}; version 2 is read")
    kind = KINDS[head[15]] if head[15] < len(KINDS) else f"number {head[15]}"
    if kind not in ("dvs", "atis"):
        raise source.faults.error(15, f"an Event Stream of type {kind}, which holds no brightness changes of pixels")
    if len(head) < 20:
        raise source.faults.error(len(head), "the header ends early")
    source.facts["type"] = kind
    source.sensor(int.from_bytes(head[18:20], "little"), int.from_bytes(head[16:18], "little"))
    yield from decode(source, f"es_{kind}", 20)


def write(path: Path, streams: Iterable[EventStream], height: int, width: int) -> None:
    now = 0
    if height >= 1 << 16 or width >= 1 << 16:
        raise refuse("es", f"its sensor is {width} x {height}, and at most 65535 x 65535 fit")
    with path.open("wb") as file:
        file.write(MAGIC + bytes((2, 0, 0, 1)) + width.to_bytes(2, "little") + height.to_bytes(2, "little"))
        for events in streams:
            if not len(events):
                continue
            passed = np.diff(events.t, prepend=now)
            idle = passed // 127
            if passed[0] < 0 or int(idle.sum()) > MOST_IDLE:
                raise refuse(
                    "es", "it begins before 0 us, or so late that 10^8 bytes would only let time pass (--rebase)"
                )
            record = np.empty((len(events), 5), np.uint8)
            record[:, 0] = (passed % 127) << 1 | events.p
            for column, values in ((1, events.x), (3, height - 1 - events.y.astype(np.int64))):
                record[:, column], record[:, column + 1] = values & 0xFF, values >> 8
            five = np.full(len(events), 5)
            file.write(laid([(idle, np.full(int(idle.sum()), 0xFF, np.uint8)), (five, record.ravel())], "u1").tobytes())
            now = int(events.t[-1])


FORMATS.register("es", Format("es", "Event Stream 2 (DVS, ATIS)", (".es",), sniff, read, write))
