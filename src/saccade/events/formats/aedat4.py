"""AEDAT 4 (DV): FlatBuffers in packets, plain or compressed with LZ4 or Zstandard, of which event packets are read."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from saccade.events import compression
from saccade.events.decoding import Packets, fresh_state
from saccade.events.encoding import fits
from saccade.events.faults import UNFINISHED, EventsWarning
from saccade.events.flat import Flat
from saccade.events.format import CERTAIN, FORMATS, NO, Format
from saccade.events.source import Columns, Source
from saccade.events.stream import EventStream
from saccade.optional import need

MAGIC = b"#!AER-DAT4.0\r\n"
MOST_HEADER = 1 << 24
EVENT = 16
BAD_PACKET = "packets that are not"
TOGETHER = 1 << 13  # events of a packet that is written
COMPRESSIONS = ("none", "LZ4", "LZ4_HIGH", "ZSTD", "ZSTD_HIGH")


def sniff(path: Path, head: bytes) -> int:
    return CERTAIN if head.startswith(MAGIC[:12]) else NO


def read(source: Source) -> Iterator[Columns]:
    data, at, number, info = _opened(source)
    source.facts["compression"] = COMPRESSIONS[number]
    wanted = _stream(source, info)
    state, packets = fresh_state("dv"), Packets(source, len(data) // 4)
    for packet, body in _bodies(source, data, at, number, wanted):
        try:
            flat = None if wanted is None and bytes(body[8:12]) != b"EVTS" else Flat(body, b"EVTS")
            begin, count = flat.vector(0, EVENT) if flat else (0, 0)
        except ValueError as error:
            source.faults.found(BAD_PACKET, packet, f"a packet with {error}")
            continue
        if count:
            events = np.frombuffer(body, np.uint8, count * EVENT, begin)
            yield from packets.decode("dv", events, partial(_where, packet), state)
    yield from packets.end()


def _opened(source: Source) -> tuple[np.ndarray, int, int, str]:
    """The bytes up to the end of the packets, where these begin, the number of their compression, the text on streams."""
    data = source.data
    if source.head(len(MAGIC)) != MAGIC:
        raise source.faults.error("header", "is not that of AEDAT 4.0")
    at = len(MAGIC)
    size = int.from_bytes(data[at : at + 4].tobytes(), "little") + 4
    if size > MOST_HEADER or at + size > len(data):
        raise source.faults.error(at, f"a header of {size} bytes, and {len(data) - at} are left")
    try:
        header = Flat(data[at : at + size].tobytes(), b"IOHE")
        number, end, info = header.integer(0, "<i", 0), header.integer(1, "<q", -1), header.text(2)
    except ValueError as error:
        raise source.faults.error(at, f"the header has {error}") from None
    if not 0 <= number < len(COMPRESSIONS):
        raise source.faults.error(at, f"a compression numbered {number}; 0 to {len(COMPRESSIONS) - 1} are known")
    at += size
    return data[:end] if at <= end < len(data) else data, at, number, info  # a table of packets, not needed, follows


def _stream(source: Source, info: str) -> int | None:
    """The stream of events, by the header's description of the streams; None where that says nothing."""
    if "<!DOCTYPE" in info or "<!ENTITY" in info:
        raise source.faults.error("header", "a description of streams that defines entities")
    try:
        root = ElementTree.fromstring(info) if info.strip() else ElementTree.Element("dv")
    except ElementTree.ParseError as error:
        raise source.faults.error("header", f"a description of streams that is no XML ({error})") from None
    found = []
    for node in root.iter("node"):
        values = {attr.get("key"): (attr.text or "").strip() for attr in node.findall("attr")}
        if values.get("typeIdentifier") == "EVTS" and node.get("name", "").isdecimal():
            attributes = [attr for part in node.findall("node") for attr in part.findall("attr")]
            sizes = {attr.get("key"): (attr.text or "").strip() for attr in attributes}
            found.append((int(node.get("name", "")), sizes))
    if not found:
        if root.findall("node"):
            raise source.faults.error("header", "describes no stream of events")
        return None
    if len(found) > 1:
        words = f"{source.path}: holds {len(found)} streams of events; the first is read"
        warnings.warn(words, EventsWarning, stacklevel=2)
    number, sizes = min(found, key=lambda one: one[0])
    if sizes.get("sizeX", "").isdecimal() and sizes.get("sizeY", "").isdecimal():
        source.sensor(int(sizes["sizeY"][:9]), int(sizes["sizeX"][:9]))
    if sizes.get("source"):
        source.facts["camera"] = sizes["source"]
    return number


def _bodies(
    source: Source, data: np.ndarray, at: int, number: int, wanted: int | None
) -> Iterator[tuple[int, bytes | memoryview]]:
    """Where each packet of the stream ``wanted`` (None: of any) begins, and what it holds."""
    expand, whole = compression.BY_NUMBER[number], data.data
    while at < len(data):
        if at + 8 > len(data):
            source.faults.found(UNFINISHED, at, "the file ends in the header of a packet")
            return
        stream, size = struct.unpack_from("<ii", whole, at)
        if size < 0 or at + 8 + size > len(data):
            words = f"a packet of {size} bytes, and {len(data) - at - 8} are left"
            source.faults.found(UNFINISHED if size >= 0 else BAD_PACKET, at, words)
            return
        if wanted is None or stream == wanted:
            try:
                body = expand(whole[at + 8 : at + 8 + size])
            except ValueError as error:
                source.faults.found(BAD_PACKET, at, f"a packet with {error}")
            else:
                yield at, body
        at += 8 + size


def _where(packet: int, byte: int) -> str:
    return f"packet at byte {packet}, event {byte // EVENT}"


def frame_stamps(path: Path) -> NDArray[np.int64]:
    """When the camera's frames begin, microseconds, int64 ``[n]``, in their order; none where the file holds no frames.

    Layout: DV's frame.fbs, whose field 1 is the start of the frame. Raises ValueError for no AEDAT 4, or a damaged one.
    """
    source, stamps = Source(path), []
    data, first, number, _ = _opened(source)
    for at, body in _bodies(source, data, first, number, None):
        if bytes(body[8:12]) == b"FRME":
            try:
                stamps.append(Flat(body, b"FRME").integer(1, "<q", 0))
            except ValueError as error:
                raise source.faults.error(at, f"a packet with {error}") from None
    return np.array(stamps, np.int64)


def write(path: Path, streams: Iterable[EventStream], height: int, width: int) -> None:
    """Compressed with LZ4."""
    frame = need("lz4.frame", "events")
    fits("aedat4", height, width, 1 << 15, 1 << 15)
    with path.open("wb") as file:
        file.write(MAGIC + _io_header(height, width))
        for events in streams:
            for part in events.by_count(TOGETHER, incomplete=True):
                body = np.zeros(len(part), [("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1"), ("", "u1", 3)])
                for name in ("t", "x", "y", "p"):
                    body[name] = getattr(part, name)
                table = struct.pack("<I4sHHHxxiII", 16, b"EVTS", 6, 8, 4, 8, 4, len(part)) + body.tobytes()
                packet = frame.compress(struct.pack("<I", len(table)) + table)
                file.write(struct.pack("<ii", 0, len(packet)) + packet)


def _io_header(height: int, width: int) -> bytes:
    """The header as a table with its size in front; every field lies at a multiple of its own size."""
    info = (
        '<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">'
        '<node name="0" path="/mainloop/Recorder/outInfo/0/"><attr key="compression" type="string">LZ4</attr>'
        '<attr key="originalModuleName" type="string">saccade</attr><attr key="originalOutputName" type="string">events</attr>'
        '<attr key="typeDescription" type="string">Array of events (polarity ON/OFF).</attr>'
        '<attr key="typeIdentifier" type="string">EVTS</attr><node name="info" path="/mainloop/Recorder/outInfo/0/info/">'
        f'<attr key="sizeX" type="int">{width}</attr><attr key="sizeY" type="int">{height}</attr>'
        '<attr key="source" type="string">saccade</attr></node></node></node></dv>'
    ).encode()
    fields = struct.pack("<HHHHHxx", 10, 20, 4, 8, 16)  # at byte 12
    table = struct.pack("<iiqI", 12, 1, -1, 4)  # at byte 24: LZ4, no table of packets, the text
    text = struct.pack("<I", len(info)) + info + b"\0"
    body = struct.pack("<I4s", 20, b"IOHE") + fields + table + text
    return struct.pack("<I", len(body)) + body


FORMATS.register("aedat4", Format("aedat4", "AEDAT 4", (".aedat4",), sniff, read, write))
