"""N-MNIST, N-Caltech101 ``.bin`` and SLAYER ``.bs2``: five bytes an event and no header (Orchard et al. 2015)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from saccade.events.decoding import decode
from saccade.events.format import FORMATS, LIKELY, NO, Format
from saccade.events.source import Columns, Source

SUFFIXES = (".bs2", ".bin")


def sniff(path: Path, head: bytes) -> int:
    return LIKELY if path.suffix.lower() in SUFFIXES else NO


def read(source: Source) -> Iterator[Columns]:
    yield from decode(source, "bs2", 0)


FORMATS.register("nmnist", Format("nmnist", "N-MNIST bin, SLAYER bs2", SUFFIXES, sniff, read))
