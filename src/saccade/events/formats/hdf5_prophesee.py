"""HDF5 as Prophesee writes it: a table ``CD/events`` of x, y, p and t. The ECF compression needs Prophesee's own plug-in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from saccade.events.decoding import Packets, fresh_state
from saccade.events.format import CERTAIN, FORMATS, NO, Format
from saccade.events.formats import hdf5
from saccade.events.source import Columns, Source
from saccade.events.stream import EventStream
from saccade.optional import need

FIELDS = ("x", "y", "p", "t")
ROW = np.dtype([("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
PIECE = 1 << 18  # rows that are read at once: few calls of the library, and the last cache holds them


def sniff(path: Path, head: bytes) -> int:
    if not head.startswith(hdf5.MAGIC):
        return NO
    try:
        with hdf5.opened(path) as file:
            return CERTAIN if "CD" in file else NO
    except (ModuleNotFoundError, ValueError):
        return NO


def read(source: Source) -> Iterator[Columns]:
    with hdf5.opened(source.path) as file:
        table = file.get("CD/events")
        if table is None or not set(FIELDS) <= set(getattr(table, "dtype", np.dtype("u1")).names or ()):
            raise ValueError(f"{source.path}: HDF5: no table CD/events of x, y, p and t")
        hdf5.sensor_of(source, table, file)
        hdf5.stored(source, table)
        packets, state = Packets(source, len(table)), fresh_state("table")
        piece = min(source.part or PIECE, PIECE)
        as_held = table.dtype == ROW
        for first, rows in _rows(source, table, piece, as_held):
            if as_held:
                yield from packets.decode("table", rows.view(np.uint8), partial(_event, first), state)
            else:
                yield source.columns(rows["t"], rows["x"], rows["y"], rows["p"], first=first)
        if as_held:
            yield from packets.end()


def _rows(source: Source, table: Any, piece: int, as_held: bool) -> Iterator[tuple[int, Any]]:
    """Rows of the table, from the bytes of the file where they lie in it as they are, else by the library."""
    lying = hdf5.pieces(source, table) if as_held else None
    if lying is not None:
        for first in sorted(lying):
            yield first, lying[first][: len(table) - first]
        return
    buffer = np.empty(min(piece, len(table)), table.dtype)
    for first in range(0, len(table), piece):
        n = min(piece, len(table) - first)
        table.read_direct(buffer, slice(first, first + n), slice(0, n))
        yield first, buffer[:n]


def _event(first: int, byte: int) -> str:
    return f"event {first + byte // ROW.itemsize}"


def write(path: Path, streams: Iterable[EventStream], height: int, width: int) -> None:
    """Not compressed."""
    library = need("h5py", "events")
    with library.File(path, "w") as file:
        file.attrs["geometry"], file.attrs["version"] = f"{width}x{height}", "1.0"
        table = file.create_dataset("CD/events", (0,), ROW, maxshape=(None,), chunks=(1 << 14,))
        for events in streams:
            rows = np.empty(len(events), ROW)
            for name in FIELDS:
                rows[name] = getattr(events, name)
            table.resize((len(table) + len(rows),))
            table[len(table) - len(rows) :] = rows


FORMATS.register("hdf5_prophesee", Format("hdf5_prophesee", "HDF5 of Prophesee", (".hdf5", ".h5"), sniff, read, write))
