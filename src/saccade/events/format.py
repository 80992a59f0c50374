"""What a file format is: one record, registered by its file in ``formats/``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from saccade.config import Registry
from saccade.events.source import Columns, Source
from saccade.events.stream import EventStream

# sniff's answers: the bytes say so, only the name does, or neither
CERTAIN, LIKELY, NO = 2, 1, 0


@dataclass(frozen=True)
class Format:
    """One format of files.

    title: what it is. suffixes: of its files.
    sniff: (path, first bytes) -> CERTAIN, LIKELY or NO. read: checked columns of a source, in the order of the file; it says
    the sensor's size before the first, where the file does. write: (path, streams one after the other, height, width), or
    None where it cannot be written. preferred: among the formats of one suffix, the greatest is written.
    open: the whole recording as memory maps, for files whose columns lie as they do in memory.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    sniff: Callable[[Path, bytes], int]
    read: Callable[[Source], Iterator[Columns]]
    write: Callable[[Path, Iterable[EventStream], int, int], None] | None = None
    preferred: int = 0
    open: Callable[[Source], EventStream] | None = None


FORMATS: Registry[Format] = Registry("event format")
