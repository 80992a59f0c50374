"""HDF5 with a column each for x, y, t and p: DSEC's layout (Gehrig et al. 2021) and its kin (xs, ys, ts, ps)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.events.encoding import times_fit
from saccade.events.format import CERTAIN, FORMATS, NO, Format
from saccade.events.source import Columns, Source
from saccade.events.stream import EventStream
from saccade.optional import need

MAGIC = b"\x89HDF\r\n\x1a\n"
NAMES = {
    "t": ("t", "ts", "timestamps", "timestamp"),
    "x": ("x", "xs"),
    "y": ("y", "ys"),
    "p": ("p", "ps", "pol", "polarity"),
}


PIECE = 1 << 19  # events that are read at once: few calls of the library, and the last cache holds them


def sniff(path: Path, head: bytes) -> int:
    if not head.startswith(MAGIC):
        return NO
    try:
        with opened(path) as file:
            return CERTAIN if _group(file) is not None else NO
    except (ModuleNotFoundError, ValueError):
        return CERTAIN  # reading says why not


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An HDF5 file to read. Raises ValueError, in one line, for what the library cannot read in it."""
    library = need("h5py", "events")
    with contextlib.suppress(ImportError):
        import hdf5plugin  # noqa: F401  # the compressions of DSEC
    try:
        with library.File(path, "r") as file:
            yield file
    except (OSError, KeyError, RuntimeError, TypeError) as error:
        words = " ".join(str(error).split())[:160]
        if "filter" in words.lower() or "plugin" in words.lower():
            words = f"compressed by a filter that is not there ({words}); Prophesee's ECF comes with its own SDK only"
        raise ValueError(f"{path}: HDF5: {words}") from None


def _group(file: Any) -> Any | None:
    """The group that has a column for each of t, x, y and p."""
    for group in (file.get("events"), file):
        if group is not None and hasattr(group, "keys") and all(any(n in group for n in NAMES[c]) for c in NAMES):
            return group
    return None


def sensor_of(source: Source, *places: Any) -> None:
    """The sensor's size from the attributes that libraries write."""
    for place in places:
        values = dict(place.attrs)
        geometry = values.get("geometry")
        text = geometry.decode("latin-1") if isinstance(geometry, bytes) else str(geometry or "")
        parts = text.lower().split("x")
        if len(parts) == 2 and all(part.strip().isdecimal() for part in parts):
            source.sensor(int(parts[1]), int(parts[0]))
            return
        resolution = np.asarray(
            values.get("sensor_resolution", [values.get("height", 0), values.get("width", 0)])
        ).ravel()
        if len(resolution) == 2 and resolution.dtype.kind in "iuf" and (resolution > 0).all():
            source.sensor(int(resolution[0]), int(resolution[1]))
            return


def read(source: Source) -> Iterator[Columns]:
    with opened(source.path) as file:
        group = _group(file)
        if group is None:
            raise ValueError(f"{source.path}: HDF5: no columns t, x, y and p, in a group events or at the top")
        columns = [group[next(n for n in NAMES[c] if n in group)] for c in ("t", "x", "y", "p")]
        sensor_of(source, group, file)
        offset = file["t_offset"][()] if "t_offset" in file else 0
        if np.ndim(offset) != 0 or np.asarray(offset).dtype.kind not in "iu":
            raise ValueError(f"{source.path}: HDF5: t_offset is one integer, got {str(offset)[:40]}")
        lengths = {column.shape for column in columns}
        if len(lengths) != 1 or len(columns[0].shape) != 1:
            raise ValueError(f"{source.path}: HDF5: columns of different shapes: {sorted(map(str, lengths))}")
        for column in columns:
            stored(source, column)
        as_held = [column.dtype for column in columns[1:]] == [np.uint16, np.uint16, np.uint8]
        if source.part is None and as_held and columns[0].dtype.kind in "iu" and columns[0].dtype != np.uint64:
            yield _whole(source, columns, int(offset))
            return
        count = len(columns[0])
        piece = source.part or max(count, 1)
        for first in range(0, count, piece):
            t, x, y, p = (column[first : first + piece] for column in columns)
            if t.dtype.kind == "f":
                t = np.rint(t * 1e6).astype(np.int64)  # seconds
            if t.dtype == np.uint64 and len(t) and int(t.max()) >> 62:
                raise source.faults.error("column t", f"a time of {t.max()} us")
            if t.dtype.kind in "iu":
                t = np.add(t, np.int64(offset), dtype=np.int64, casting="unsafe")
            yield source.columns(t, x, y, p, first=first)


def _whole(source: Source, columns: list[Any], offset: int) -> Columns:
    """All events of columns of the types that we hold, put where they stay, and looked at once."""
    count = len(columns[0])
    t, x, y, p = (np.empty(count, dtype) for dtype in (np.int64, np.uint16, np.uint16, np.uint8))
    for first, times, *others in _as_they_lie(source, columns) or _read(columns):
        to = slice(first, first + len(times))
        held: Any = t[to]
        held[:] = times[: len(held)]
        if offset:
            held += offset
        for out, part in zip((x, y, p), others, strict=True):
            out[to] = part[: len(held)]
    return source.columns(t, x, y, p)


def _read(columns: list[Any]) -> Iterator[list[Any]]:
    """Pieces of all columns, by the library: where each begins, and its values."""
    count = len(columns[0])
    pieces = [np.empty(min(PIECE, count), column.dtype) for column in columns]
    for first in range(0, count, PIECE):
        n = min(PIECE, count - first)
        for column, piece in zip(columns, pieces, strict=True):
            column.read_direct(piece, slice(first, first + n), slice(0, n))
        yield [first, *(piece[:n] for piece in pieces)]


def _as_they_lie(source: Source, columns: list[Any]) -> list[list[Any]] | None:
    """The same from the bytes of the file, where all columns lie in it uncompressed and cut alike."""
    found = [pieces(source, column) for column in columns]
    if any(one is None for one in found) or len({tuple(one) for one in found if one is not None}) != 1:
        return None
    return [[first, *(one[first] for one in found if one is not None)] for first in sorted(found[0] or {})]


def pieces(source: Source, column: Any) -> dict[int, NDArray[Any]] | None:
    """A column's chunks by their first row, as views of the file's bytes; None where the library has to unpack them."""
    plain = column.compression is None and not column.shuffle and not column.fletcher32 and column.scaleoffset is None
    plain = plain and hasattr(column.id, "chunk_iter")  # not in old builds of HDF5
    if not plain or not column.chunks or not column.dtype.isnative or column.id.get_create_plist().get_nfilters():
        return None
    length, dtype, found = column.chunks[0], column.dtype, {}
    size = length * dtype.itemsize
    places: list[Any] = []
    column.id.chunk_iter(places.append)
    for place in places:
        begin = place.byte_offset
        if place.filter_mask or place.size != size or begin is None or begin + size > len(source.data):
            return None
        found[place.chunk_offset[0]] = source.data[begin : begin + size].view(dtype)
    return found if sorted(found) == list(range(0, len(column), length)) else None


def stored(source: Source, column: Any) -> None:
    """Raises ValueError for a column that says it holds more than the file can: compression takes a thousandth at most."""
    size = column.id.get_storage_size()
    if column.size * column.dtype.itemsize > 1032 * size + 4096:
        raise ValueError(f"{source.path}: HDF5: {column.name} says {column.size} numbers, and {size} bytes are stored")


def write(path: Path, streams: Iterable[EventStream], height: int, width: int) -> None:
    """DSEC's layout: times from the first event on (t_offset), and the index of the first event of each millisecond."""
    library = need("h5py", "events")
    with library.File(path, "w") as file:
        group = file.create_group("events")
        group.attrs["height"], group.attrs["width"] = height, width
        for name, dtype in (("t", "u4"), ("x", "u2"), ("y", "u2"), ("p", "u1")):
            group.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(1 << 16,))
        count, offset, index = 0, None, [np.zeros(1, np.uint64)]
        for events in streams:
            if not len(events):
                continue
            offset = int(events.t[0]) if offset is None else offset
            shifted = EventStream.trusted(events.t - offset, events.x, events.y, events.p, height, width)
            times_fit("hdf5", shifted, 32)
            for name in ("t", "x", "y", "p"):
                group[name].resize((count + len(events),))
                group[name][count:] = getattr(shifted, name)
            done = sum(map(len, index))
            stamps = np.arange(done, int(shifted.t[-1]) // 1000 + 2) * 1000
            index.append((count + np.searchsorted(shifted.t, stamps)).astype(np.uint64))
            count += len(events)
        file["ms_to_idx"], file["t_offset"] = np.concatenate(index), np.int64(offset or 0)


FORMATS.register(
    "hdf5", Format("hdf5", "HDF5, DSEC's layout and its kin", (".h5", ".hdf5"), sniff, read, write, preferred=1)
)
