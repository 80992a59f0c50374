"""AEDAT 3.1 (cAER; DVS128 Gesture): packets with a header of 28 bytes, of which polarity packets are read."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from saccade.events.decoding import Packets, fresh_state
from saccade.events.encoding import fits, refuse, times_fit
from saccade.events.faults import UNFINISHED
from saccade.events.format import CERTAIN, FORMATS, NO, Format
from saccade.events.source import Columns, Source
from saccade.events.stream import EventStream

MAGIC, END = b"#!AER-DAT3.1", b"#!END-HEADER\r\n"
PACKET = 28
POLARITY = 1
KINDS = 16  # special, polarity, frame, motion (6 and 9), ...: more than cAER has
SIZES = {
    "DVS128": (128, 128),
    "DAVIS128": (128, 128),
    "DAVIS240": (180, 240),
    "DAVIS346": (260, 346),
    "DAVIS640": (480, 640),
}
BAD_PACKET = "packets that are not"


def sniff(path: Path, head: bytes) -> int:
    return CERTAIN if head.startswith(MAGIC) else NO


def read(source: Source) -> Iterator[Columns]:
    data = source.data
    head = source.head()
    if not head.startswith(MAGIC):
        raise source.faults.error("header", "is not that of AEDAT 3.1")
    at = head.find(END)
    if at < 0:
        raise source.faults.error("header", f"does not end: there is no {END.decode().strip()}")
    names = re.findall(rb"#Source \d+: ([A-Za-z]+\d+)", head[:at])
    size = SIZES.get(names[0].decode()) if names else None
    if names:
        source.facts["chip"] = names[0].decode()
    if size:
        source.sensor(*size)
    at += len(END)
    packets = Packets(source, len(data) // 8)
    while at < len(data):
        if at + PACKET > len(data):
            source.faults.found(UNFINISHED, at, "the file ends in the header of a packet")
            break
        kind, _, each, _, overflow, capacity, number, _ = np.frombuffer(data[at : at + PACKET].tobytes(), _HEADER)[
            0
        ].item()
        body, last = at + PACKET, at + PACKET + number * each
        if (
            not 0 <= kind < KINDS
            or each < 1
            or not 0 <= number <= capacity
            or overflow < 0
            or (kind == POLARITY and each != 8)
        ):
            words = f"no header of a packet (type {kind}, {number} of {capacity} events of {each} bytes)"
            source.faults.found(BAD_PACKET, at, words)
            break  # where the next one begins is not known
        if last > len(data):
            words = f"a packet of {number} events of {each} bytes, and {len(data) - body} bytes are left"
            source.faults.found(UNFINISHED, at, words)
            last = body + (len(data) - body) // each * each
        if kind == POLARITY:
            yield from packets.decode("aedat3", data, _itself, fresh_state("aedat3", overflow << 31), body, last)
        at = body + number * each
    yield from packets.end()


def _itself(byte: int) -> int:
    return byte


_HEADER = np.dtype(
    [(name, "<i2") for name in ("kind", "source")]
    + [(name, "<i4") for name in ("each", "offset", "overflow", "capacity", "number", "valid")]
)


def write(path: Path, streams: Iterable[EventStream], height: int, width: int) -> None:
    fits("aedat3", height, width, 1 << 15, 1 << 15)
    name = next((name for name, size in SIZES.items() if size == (height, width)), None)
    if name is None:
        known = ", ".join(f"{w} x {h}" for h, w in SIZES.values())
        raise refuse("aedat3", f"its sensor is {width} x {height}, and those of known cameras are {known}")
    with path.open("wb") as file:
        file.write(MAGIC + b"\r\n#Format: RAW\r\n#Source 1: " + name.encode() + b"\r\n" + END)
        for events in streams:
            times_fit("aedat3", events, 62)
            overflows = events.t >> 31
            cuts = np.flatnonzero(np.diff(overflows)) + 1
            starts = sorted({*range(0, len(events), 1 << 13), *cuts.tolist()})
            for first, last in itertools.pairwise([*starts, len(events)]):
                part = events[first:last]
                n = len(part)
                header = np.array([(POLARITY, 1, 8, 4, overflows[first], n, n, n)], _HEADER)
                word = (
                    part.x.astype(np.uint32) << 17 | part.y.astype(np.uint32) << 2 | part.p.astype(np.uint32) << 1 | 1
                )
                body = np.stack([word, (part.t & 0x7FFFFFFF).astype(np.uint32)], 1)
                file.write(header.tobytes() + body.astype("<u4").tobytes())


FORMATS.register("aedat3", Format("aedat3", "AEDAT 3.1", (".aedat", ".aedat3"), sniff, read, write))
