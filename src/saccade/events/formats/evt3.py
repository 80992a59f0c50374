"""Prophesee EVT 3.0: words of 16 bits that change a state (row, time, first pixel of a vector)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from saccade.events import prophesee
from saccade.events.decoding import decode
from saccade.events.format import CERTAIN, FORMATS, NO, Format
from saccade.events.source import Columns, Source


def sniff(path: Path, head: bytes) -> int:
    return CERTAIN if prophesee.version_of(head) == "3.0" else NO


def read(source: Source) -> Iterator[Columns]:
    yield from decode(source, "evt3", prophesee.begin(source, "3.0").end)


FORMATS.register("evt3", Format("evt3", "Prophesee EVT 3.0", (".raw",), sniff, read))
