"""Recordings from files and to files, whatever their format."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

import saccade.events.formats  # registers them  # noqa: F401
from saccade.events.format import CERTAIN, FORMATS, LIKELY, NO, Format
from saccade.events.source import Columns, Source
from saccade.events.stream import EventStream

HEAD = 1 << 14
CHUNK = 1 << 20  # events


def format_of(path: str | Path) -> Format:
    """The format of a file, by its first bytes, or by its name where a format has no mark.

    Raises ValueError if it is none that is known, OSError if it cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        return _known(path, file.read(HEAD))


def _known(path: Path, head: bytes) -> Format:
    sure: dict[int, list[Format]] = {CERTAIN: [], LIKELY: [], NO: []}
    for one in FORMATS.values():
        sure[one.sniff(path, head)].append(one)
    found = sure[CERTAIN] or sure[LIKELY]
    if not found:
        if not head:
            raise ValueError(f"{path}: is empty")
        raise ValueError(f"{path}: no format of event recordings that is known; say which: {', '.join(FORMATS)}")
    if len(found) > 1:
        raise ValueError(f"{path}: could be {' or '.join(one.name for one in found)}; say which")
    return found[0]


def common_format(paths: Iterable[str | Path]) -> Format:
    """The one format of all files. Raises ValueError naming two that differ."""
    first: tuple[Path, Format] | None = None
    for path in map(Path, paths):
        found = format_of(path)
        first = first or (path, found)
        if found is not first[1]:
            raise ValueError(f"{path}: is of format {found.name}, and {first[0]} of {first[1].name}; one at a time")
    if first is None:
        raise ValueError("there are no recordings")
    return first[1]


def open_events(
    path: str | Path,
    format: str | None = None,
    *,
    height: int | None = None,
    width: int | None = None,
    lenient: bool = False,
) -> EventStream:
    """All events of a recording.

    format: its name in ``FORMATS`` (default: found out). height, width: of the sensor, in pixels (default: from the header,
    else from the events, with an ``EventsWarning``). lenient: leave out what is wrong, with a warning that says what.

    Raises ValueError, in one line with the place in the file, for what is wrong; OSError if the file cannot be read;
    ModuleNotFoundError, naming the extra, where a library is missing.
    """
    source = Source(Path(path), height, width, lenient)
    kind = FORMATS[format] if format else _known(source.path, source.head(HEAD))
    if kind.open and not lenient:
        return kind.open(source)
    parts = list(kind.read(source))
    source.faults.say()
    height, width = source.size()
    return EventStream.trusted(*(parts[0] if len(parts) == 1 else _join(parts)), height, width)


def read_chunks(
    path: str | Path,
    format: str | None = None,
    *,
    events: int = CHUNK,
    height: int | None = None,
    width: int | None = None,
    lenient: bool = False,
) -> Iterator[EventStream]:
    """A recording in chunks of at most ``events`` events, in memory for one of them. Options and errors as ``open_events``.

    Where nobody says the size of the sensor, the file is read twice.
    """
    if events < 1:
        raise ValueError(f"a chunk holds at least one event, got {events}")
    path = Path(path)
    kind = FORMATS[format] if format else format_of(path)
    if height is None or width is None:
        height, width = _size(kind, path, height, width, lenient, events)
    source = Source(path, height, width, lenient, events)
    for columns in kind.read(source):
        for first in range(0, len(columns[0]), events):
            t, x, y, p = (column[first : first + events] for column in columns)
            yield EventStream.trusted(t, x, y, p, height, width)
    source.faults.say()


def _size(
    kind: Format, path: Path, height: int | None, width: int | None, lenient: bool, events: int
) -> tuple[int, int]:
    """The sensor's size: after the header, if that says it, else at the end of the events."""
    source = Source(path, height, width, lenient, events)
    with closing(kind.read(source)) as parts:  # type: ignore[type-var]
        for _ in parts:
            if source.height and source.width:
                break
    return source.size()


def _join(parts: list[Columns]) -> Columns:
    types = (np.int64, np.uint16, np.uint16, np.uint8)
    if not parts:
        t, x, y, p = (np.empty(0, dtype) for dtype in types)
    else:
        t, x, y, p = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return t, x, y, p


def format_for(path: str | Path, format: str | None = None) -> Format:
    """What a file is written as: the format named, else the first that writes files of such a name.

    Raises ValueError if there is none, or it cannot be written.
    """
    path = Path(path)
    if format is None:
        found = [one for one in FORMATS.values() if path.suffix.lower() in one.suffixes and one.write]
        if not found:
            known = sorted({suffix for one in FORMATS.values() if one.write for suffix in one.suffixes})
            raise ValueError(f"{path}: no format is written under this name; known: {', '.join(known)}")
        return max(found, key=lambda one: one.preferred)
    kind = FORMATS[format]
    if kind.write is None:
        able = [one.name for one in FORMATS.values() if one.write]
        raise ValueError(f"{path}: {kind.title} is read, not written; written are {', '.join(able)}")
    return kind


def write_events(
    path: str | Path,
    events: EventStream | Iterable[EventStream],
    format: str | None = None,
    *,
    height: int | None = None,
    width: int | None = None,
) -> Format:
    """Write a stream, or streams one after the other, as one recording; returns the format (default: by the file's name).

    height, width: of the sensor; needed only where there is no first stream to say them. A file that is there is replaced once
    the new one is whole. Raises ValueError for what the format cannot hold, and for streams that run back in time or are of
    sensors of different sizes.
    """
    path = Path(path)
    kind = format_for(path, format)
    assert kind.write is not None
    place = path.resolve()  # through links, which stay
    if place.exists() and not place.is_file():
        raise ValueError(f"{path}: is no regular file, and recordings are written into those alone")
    streams = iter([events] if isinstance(events, EventStream) else events)
    first = next(streams, None)
    if first is not None:
        height, width = first.height, first.width
    elif height is None or width is None:
        raise ValueError(f"{path}: there are no events, and nobody says the size of the sensor")
    unfinished = place.with_name(f".{place.name}.part")
    try:
        kind.write(unfinished, _in_order([] if first is None else [first], streams), height, width)
        unfinished.replace(place)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    finally:
        unfinished.unlink(missing_ok=True)
    return kind


def _in_order(first: list[EventStream], rest: Iterator[EventStream]) -> Iterator[EventStream]:
    last: EventStream | None = None
    for stream in itertools.chain(first, rest):
        stream = stream if stream.checked else stream[:]
        if last is not None:
            if (stream.height, stream.width) != (last.height, last.width):
                sizes = f"{last.width} x {last.height} and {stream.width} x {stream.height}"
                raise ValueError(f"streams of sensors of one size go together, got {sizes}")
            if len(last) and len(stream) and stream.t[0] < last.t[-1]:
                raise ValueError(f"time runs back from {last.t[-1]} to {stream.t[0]} us between two streams")
        yield stream
        last = stream if len(stream) or last is None else last
