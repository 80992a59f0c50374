"""Text: a line an event, columns by spaces or commas; ``t x y p`` unless a line of names says another order.

A time with a decimal point is in seconds (as the RPG sets have it), one without in microseconds.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from saccade.events.faults import UNFINISHED
from saccade.events.format import FORMATS, LIKELY, NO, Format
from saccade.events.source import Columns, Source
from saccade.events.stream import EventStream

NAMES = {
    "t": "t", "ts": "t", "time": "t", "timestamp": "t", "t_us": "t", "x": "x", "y": "y",
    "p": "p", "pol": "p", "polarity": "p", "on": "p",
}  # fmt: skip
SUFFIXES = (".csv", ".txt")
PIECE = 1 << 24  # bytes that are read at once
MARK = b"\xef\xbb\xbf"  # that spreadsheets write before UTF-8
FIRST = re.compile(rb"\s*[-+]?\d+(\.\d*)?([eE][-+]?\d+)?[ \t,;]")
BAD_LINE = "lines that are no event"
ORDER = ("t", "x", "y", "p")


def sniff(path: Path, head: bytes) -> int:
    if path.suffix.lower() not in SUFFIXES or b"\0" in head:
        return NO
    lines = [line for line in head.removeprefix(MARK).splitlines() if line.strip() and not line.startswith(b"#")]
    names = _names(lines[0].decode("latin-1")) if lines else ORDER
    return LIKELY if names or any(FIRST.match(line) for line in lines[:3]) else NO


def _names(line: str) -> tuple[str, ...]:
    """The order of the columns that a line of names gives; () if it is none."""
    names = tuple(NAMES.get(name.strip().strip('"').lower(), "") for name in re.split(r"[ ,;\t]+", line.strip()))
    return names if sorted(names) == sorted(ORDER) else ()


def read(source: Source) -> Iterator[Columns]:
    order: tuple[str, ...] = ORDER
    row = 1
    seconds: bool | None = None
    rest = b""
    with source.path.open("rb") as file:
        while block := file.read(PIECE):
            block = rest + block
            cut = block.rfind(b"\n") + 1
            block, rest = (block[:cut], block[cut:]) if len(block) >= PIECE else (block, b"")
            if row == 1:
                block = block.removeprefix(MARK)
                order, used, block = _before(source, block)
                row += used
            if seconds is None and block.strip():
                seconds = b"." in block.split(None, 1)[0].split(b",")[0] if order[0] == "t" else b"." in block[:256]
            lines = block.count(b"\n") + (not block.endswith(b"\n"))
            yield from _parsed(source, block, row, order, bool(seconds))
            row += lines
    if rest.strip():
        yield from _parsed(source, rest, row, order, bool(seconds))


def _before(source: Source, block: bytes) -> tuple[tuple[str, ...], int, bytes]:
    """Comments, the sensor's size (``# geometry WxH``, or a line of two numbers), names of columns: how many lines."""
    order: tuple[str, ...] = ORDER
    used = 0
    while block:
        line, newline, after = block.partition(b"\n")
        text = line.decode("latin-1").strip()
        size = re.search(r"geometry[ :=]*(\d{1,6})\s*[x,]\s*(\d{1,6})", text) if text.startswith("#") else None
        pair = re.fullmatch(r"(\d{1,6})[ ,]+(\d{1,6})", text)
        if size or pair:
            width, height = (size or pair).groups()  # type: ignore[union-attr]
            source.sensor(int(height), int(width))
        elif text and not text.startswith("#"):
            names = _names(text)
            if not names:
                return order, used, block
            order = names
        used += 1
        block = after
        if not newline:
            break
    return order, used, block


def _parsed(source: Source, block: bytes, row: int, order: tuple[str, ...], seconds: bool) -> Iterator[Columns]:
    if not block.strip():
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            numbers = np.fromstring(block.replace(b",", b" ").decode("ascii"), np.float64, sep=" ")
            table = numbers.reshape(-1, 4)
            lines = block.count(b"\n") + (not block.endswith(b"\n"))
            if len(table) != lines or not np.isfinite(table).all():
                raise ValueError
        except (ValueError, DeprecationWarning):  # some line is no event: which one?
            table, rows = _by_line(source, block, row)
        else:
            rows = np.empty(0, np.int64)
    values = {name: table[:, i] for i, name in enumerate(order)}
    t = np.rint(values["t"] * 1e6) if seconds else values["t"]
    whole = [np.rint(values[name]) for name in ("x", "y", "p")]
    off = [~(np.abs(t) < 2**62)] + [
        (column != values[name]) for column, name in zip(whole, ("x", "y", "p"), strict=True)
    ]
    off += [~(np.abs(column) < 2**31) for column in whole]
    bad = np.logical_or.reduce(off)
    if bad.any():
        at = int(bad.argmax())
        line = int(rows[at]) if len(rows) else row + at
        source.faults.found(BAD_LINE, f"line {line}", "a value that is no whole number, or too large", int(bad.sum()))
        t, whole = t[~bad], [column[~bad] for column in whole]
    t, x, y, p = (column.astype(np.int64) for column in (t, *whole))
    yield source.columns(t, x, y, p, place="event of line", first=row)


def _by_line(source: Source, block: bytes, row: int) -> tuple[np.ndarray, np.ndarray]:
    """The lines that are events, and their numbers; the first that is not is a fault."""
    table, rows = [], []
    for number, line in enumerate(block.split(b"\n"), row):
        text = line.decode("latin-1").strip()
        if not text or text.startswith("#"):
            continue
        parts = re.split(r"[ ,;\t]+", text)
        try:
            values = [float(part) for part in parts]
        except ValueError:
            values = []
        if len(values) != 4 or not np.isfinite(values).all():
            shown = text if len(text) < 60 else f"{text[:60]}..."
            source.faults.found(BAD_LINE if line else UNFINISHED, f"line {number}", f"{shown!r} is no event: t x y p")
            continue
        table.append(values)
        rows.append(number)
    return np.array(table, np.float64).reshape(-1, 4), np.array(rows, np.int64)


def write(path: Path, streams: Iterable[EventStream], height: int, width: int) -> None:
    """With commas, a line of names and times in microseconds."""
    with path.open("w", encoding="ascii", newline="\n") as file:
        file.write(f"# geometry {width}x{height}\nt,x,y,p\n")
        for events in streams:
            for part in events.by_count(1 << 16, incomplete=True):
                rows = zip(part.t.tolist(), part.x.tolist(), part.y.tolist(), part.p.tolist(), strict=True)
                file.write("".join(f"{t},{x},{y},{p}\n" for t, x, y, p in rows))


FORMATS.register("text", Format("text", "text, CSV", SUFFIXES, sniff, read, write))
