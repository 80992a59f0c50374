"""Our own container, ``.events``: columns as they lie in memory, so that a recording of any length is mapped, not read.

All numbers are little-endian. Bytes 0 to 15: ``saccade events 1``. Then six of 8 bytes: the number of events N, height, width,
the first and the last time (int64, us; 0 where N is 0), and the CRC-32 of the 56 bytes before. Zeros up to byte 4096. Then the
columns t (int64), x, y (uint16) and p (uint8), each of N numbers, each from the next multiple of 4096 on. Nothing follows.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from saccade.events.format import CERTAIN, FORMATS, NO, Format
from saccade.events.source import Columns, Source
from saccade.events.stream import MOST_PIXELS, EventStream

MAGIC = b"saccade events 1"
PAGE = 4096
COLUMNS = (("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1"))
HEADER = struct.Struct("<16sQQQqq")


def sniff(path: Path, head: bytes) -> int:
    return CERTAIN if head.startswith(MAGIC[:15]) else NO


def layout(count: int) -> tuple[list[int], int]:
    """Where each column of N numbers begins, and how large the file is."""
    starts, at = [], PAGE
    for _, dtype in COLUMNS:
        starts.append(at)
        end = at + count * np.dtype(dtype).itemsize
        at = -(-end // PAGE) * PAGE
    return starts, end


def _mapped(source: Source) -> list[Any]:
    """The columns, once the header is found to be right."""
    path, error = source.path, source.faults.error
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEADER.size + 8)
    if not head.startswith(MAGIC[:15]):
        raise error("header", "is not that of a container of events")
    if not head.startswith(MAGIC):
        raise error(15, f"version {head[15:16].decode('latin-1')!r} of the container; version 1 is read")
    if len(head) < HEADER.size + 8:
        raise error(len(head), "the header ends early")
    _, count, height, width, first, last = HEADER.unpack_from(head)
    if zlib.crc32(head[: HEADER.size]) != int.from_bytes(head[HEADER.size :], "little"):
        raise error("header", "was changed: its check sum is not that of its bytes")
    starts, end = layout(count)
    if end != size or not 1 <= height <= MOST_PIXELS or not 1 <= width <= MOST_PIXELS:
        raise error("header", f"{count} events of a sensor of {width} x {height} take {end} bytes; the file has {size}")
    source.sensor(height, width)
    if not count:
        return [np.empty(0, dtype) for _, dtype in COLUMNS]
    whole = np.memmap(path, np.uint8, "r").view(np.ndarray)
    sizes = [count * np.dtype(dtype).itemsize for _, dtype in COLUMNS]
    found = [whole[at : at + n].view(dtype) for at, n, (_, dtype) in zip(starts, sizes, COLUMNS, strict=True)]
    if (int(found[0][0]), int(found[0][-1])) != (first, last):
        raise error(starts[0], f"times from {found[0][0]} to {found[0][-1]} us; the header says {first} to {last}")
    return found


def read(source: Source) -> Iterator[Columns]:
    t, x, y, p = _mapped(source)
    piece = source.part or max(len(t), 1)
    for first in range(0, len(t), piece):
        part = slice(first, first + piece)
        yield source.columns(t[part], x[part], y[part], p[part], first=first)


def open_mapped(source: Source) -> EventStream:
    """The whole recording as maps; slices are checked when they are made."""
    t, x, y, p = _mapped(source)
    height, width = source.size()
    return EventStream(t, x, y, p, height, width, check=False)


def write(path: Path, streams: Iterable[EventStream], height: int, width: int) -> None:
    """In memory for one stream at a time; the columns are gathered in files beside the new one first."""
    count, first, last = 0, 0, 0
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".events-") as place:
        files: list[BinaryIO] = [(Path(place) / name).open("w+b") for name, _ in COLUMNS]
        try:
            for events in streams:
                if not len(events):
                    continue
                first = first if count else int(events.t[0])
                last, count = int(events.t[-1]), count + len(events)
                for file, (name, dtype) in zip(files, COLUMNS, strict=True):
                    np.ascontiguousarray(getattr(events, name), dtype).tofile(file)
            with path.open("wb") as whole:
                header = HEADER.pack(MAGIC, count, height, width, first, last)
                whole.write(header + zlib.crc32(header).to_bytes(8, "little"))
                starts, end = layout(count)
                for file, start in zip(files, starts, strict=True):
                    file.seek(0)
                    whole.seek(start)
                    shutil.copyfileobj(file, whole, 1 << 20)
                whole.truncate(end)
        finally:
            for file in files:
                file.close()


FORMATS.register("container", Format("container", "our container", (".events",), sniff, read, write, open=open_mapped))
