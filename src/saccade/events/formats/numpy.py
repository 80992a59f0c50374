"""NumPy files: ``.npz`` with columns t, x, y and p, ``.npy`` with a table of them. Nothing is unpickled."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from saccade.events.format import CERTAIN, FORMATS, NO, Format
from saccade.events.source import Columns, Source
from saccade.events.stream import EventStream

MAGIC, ZIP = b"\x93NUMPY", b"PK\x03\x04"
NAMES = {"t": ("t", "ts", "timestamp"), "x": ("x", "xs"), "y": ("y", "ys"), "p": ("p", "ps", "pol", "polarity", "on")}
PIECE = 1 << 22


def sniff(path: Path, head: bytes) -> int:
    return CERTAIN if head.startswith(MAGIC) or (head.startswith(ZIP) and path.suffix.lower() == ".npz") else NO


def read(source: Source) -> Iterator[Columns]:
    if source.head(len(MAGIC)) == MAGIC:
        table = _mapped(source)
        if not table.dtype.names:
            words = f"an array of {table.dtype} without names; a table with columns t, x, y and p is wanted"
            raise source.faults.error("header", words)
        found: dict[str, Any] = {name: table[name] for name in table.dtype.names}
    elif source.head(len(ZIP)) == ZIP:
        found = _unzipped(source)
    else:
        raise source.faults.error("header", "is not that of a NumPy file")
    columns = []
    for name, names in NAMES.items():
        one = next((found[other] for other in names if other in found), None)
        if one is None:
            raise source.faults.error("columns", f"{', '.join(sorted(found))[:120]}; none is {name}")
        columns.append(one)
    size = [found.get(name) for name in ("height", "width")]
    if all(side is not None and side.ndim == 0 and side.dtype.kind in "iu" for side in size):
        source.sensor(int(size[0]), int(size[1]))  # type: ignore[arg-type]
    piece = source.part or PIECE
    if any(column.ndim != 1 for column in columns):
        raise source.faults.error(
            "columns", f"of shapes {[column.shape for column in columns]}; one row each is wanted"
        )
    for first in range(0, len(columns[0]), piece):
        t, x, y, p = (column[first : first + piece] for column in columns)
        yield source.columns(t, x, y, p, first=first)


def _mapped(source: Source) -> Any:
    try:
        table = np.load(source.path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError, OverflowError, MemoryError) as error:
        raise source.faults.error("header", f"NumPy cannot read it ({' '.join(str(error).split())[:160]})") from None
    if table.ndim != 1:
        raise source.faults.error("header", f"an array of shape {table.shape}; one row of a table is wanted")
    return table


def _unzipped(source: Source) -> dict[str, Any]:
    """Arrays by name; each must be as large as its header says before memory is set aside for it."""
    wanted = {name for names in NAMES.values() for name in names} | {"height", "width"}
    found = {}
    try:
        with zipfile.ZipFile(source.path) as archive:
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if name not in wanted:
                    continue
                if info.file_size > 1032 * max(info.compress_size, 1) + 1024:  # more than deflate can pack
                    raise ValueError(f"{name} says {info.file_size} bytes in {info.compress_size}")
                content = archive.read(info)
                found[name] = _array(content, name)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, zlib.error, ValueError) as error:
        raise source.faults.error("archive", " ".join(str(error).split())[:200]) from None
    return found


def _array(content: bytes, name: str) -> Any:
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
    except (ValueError, SyntaxError, TypeError, OverflowError) as error:
        raise ValueError(f"{name} has no header of an array ({' '.join(str(error).split())[:120]})") from None
    if dtype.hasobject or fortran or dtype.kind not in "iub":
        raise ValueError(f"{name} holds {dtype}; integers are wanted")
    count = 1
    for side in shape:
        count *= side
    body = content[file.tell() :]
    if count * dtype.itemsize != len(body):
        raise ValueError(f"{name} says {count} numbers of {dtype.itemsize} bytes, and {len(body)} bytes are there")
    return np.frombuffer(body, dtype).reshape(shape)


def write(path: Path, streams: Iterable[EventStream], height: int, width: int) -> None:
    """An ``.npz``, not compressed; all events are held in memory."""
    parts = list(streams)
    t, x, y, p = (
        np.concatenate([np.empty(0, dtype), *(getattr(part, name) for part in parts)])
        for name, dtype in (("t", np.int64), ("x", np.uint16), ("y", np.uint16), ("p", np.uint8))
    )
    with path.open("wb") as file:
        np.savez(file, t=t, x=x, y=y, p=p, height=np.int64(height), width=np.int64(width))


FORMATS.register("numpy", Format("numpy", "NumPy npz, npy", (".npz",), sniff, read, write))
