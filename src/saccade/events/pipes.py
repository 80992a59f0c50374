"""Events from a pipe: lines of text, taken as they come."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from saccade.events.formats.text import MARK
from saccade.events.stream import EventStream

BLOCK = 1 << 16
LONGEST = 1 << 12  # bytes of a line
NAMES = [b"t", b"x", b"y", b"p"]


def read_lines(file: BinaryIO, height: int, width: int, name: str = "-") -> Iterator[EventStream]:
    """Events from lines ``t x y p``: whole numbers, microseconds first, with spaces or commas between. ``p`` is 0 or 1.

    What has come so far is handed on at once. Comments (#) and lines of names, t x y p, are passed over.
    Raises ValueError naming the line.
    """
    number, before = 0, None
    for text in _whole_lines(file, name):
        text = text if number else text.removeprefix(MARK)
        lines = text.replace(b",", b" ").splitlines()
        rows = [line.split() for line in lines]
        rows = [[] if row and (row[0].startswith(b"#") or row == NAMES) else row for row in rows]
        events = _events([row for row in rows if row])
        if events is None:
            for at, row in enumerate(rows, number + 1):
                if row and _events([row]) is None:
                    raise ValueError(f"{name}: line {at} is no event (t x y p): {b' '.join(row)[:60]!r}")
            raise ValueError(f"{name}: lines {number + 1} to {number + len(rows)} are no events")
        number += len(rows)
        columns: list[Any] = list(events.T)
        try:
            stream = EventStream(columns[0], columns[1], columns[2], columns[3], height, width)
            if len(stream) and before is not None and stream.t[0] < before:
                raise ValueError(f"time runs back from {before} to {stream.t[0]} us")
        except ValueError as error:
            raise ValueError(f"{name}: up to line {number}: {error}") from None
        if len(stream):
            before = int(stream.t[-1])
            yield stream


def _events(rows: list[list[bytes]]) -> NDArray[np.int64] | None:
    """int64 ``[N, 4]``, or None where a row is not of four whole numbers."""
    try:
        return np.array([[int(word) for word in row] for row in rows], np.int64).reshape(len(rows), 4)
    except (ValueError, OverflowError):
        return None


def _whole_lines(file: BinaryIO, name: str) -> Iterator[bytes]:
    """What comes, cut after the last end of a line; the rest at the end."""
    kept = b""
    while True:
        block = os.read(file.fileno(), BLOCK)
        if not block:
            break
        whole, newline, rest = block.rpartition(b"\n")
        if newline:
            yield kept + whole
            kept = rest
        else:
            kept += block
            if len(kept) > LONGEST:
                raise ValueError(f"{name}: a line of more than {LONGEST:,} bytes; events are lines of t x y p")
    if kept:
        yield kept
