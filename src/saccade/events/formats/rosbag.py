"""ROS 1 bags, version 2.0: messages of dvs_msgs, prophesee_event_msgs and event_camera_msgs (encodings evt3 and mono)."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from saccade.events import compression
from saccade.events.decoding import Packets, fresh_state
from saccade.events.encoding import fits, refuse, times_fit
from saccade.events.faults import UNFINISHED, EventsWarning
from saccade.events.format import CERTAIN, FORMATS, NO, Format
from saccade.events.plain import State
from saccade.events.source import Columns, Source
from saccade.events.stream import EventStream

MAGIC = b"#ROSBAG V2.0\n"
MESSAGE, BAG, CHUNK, CONNECTION = 2, 3, 5, 7
ARRAYS = ("dvs_msgs/EventArray", "prophesee_event_msgs/EventArray")
PACKETS = ("event_camera_msgs/EventPacket", "event_array_msgs/EventArray")
EXPAND = {b"none": compression.none, b"bz2": compression.bzip2, b"lz4": compression.lz4}
BAD = "records that are not"
EVENT = 13


def sniff(path: Path, head: bytes) -> int:
    return CERTAIN if head.startswith(MAGIC) else NO


@dataclass
class Record:
    """A record of a bag: its named fields, its data, and where it begins in the file."""

    fields: dict[bytes, bytes]
    data: memoryview
    at: int

    @property
    def op(self) -> int:
        return self.fields.get(b"op", b"\0")[0] if self.fields.get(b"op") else 0

    def number(self, name: bytes) -> int:
        value = self.fields.get(name, b"")
        if len(value) != 4:
            raise ValueError(f"a record without its {name.decode()}")
        return int.from_bytes(value, "little")


def _records(data: memoryview, at: int, base: int | None) -> Iterator[Record]:
    """Records one after the other. base: where ``data`` lies in the file; None: all of it lies at a chunk's place ``-at``."""
    end = len(data)
    while at < end:
        where = at if base is None else base
        try:
            fields, body = _block(data, at, where)
            rest, after = _block(data, body, where)
        except _Early as early:
            raise early from None
        yield Record(_fields(fields, where), rest, where)
        at = after


class _Early(ValueError):
    """A length that leads beyond the bytes that are there."""

    def __init__(self, at: int, words: str) -> None:
        super().__init__(words)
        self.at = at


def _block(data: memoryview, at: int, where: int) -> tuple[memoryview, int]:
    """What has its length, of four bytes, in front; and the byte after it."""
    if at + 4 > len(data):
        raise _Early(where, "the file ends in a record")
    size = int.from_bytes(data[at : at + 4], "little")
    if at + 4 + size > len(data):
        raise _Early(where, f"a record of {size} bytes, and {len(data) - at - 4} are left")
    return data[at + 4 : at + 4 + size], at + 4 + size


def _fields(data: memoryview, where: int) -> dict[bytes, bytes]:
    found, at = {}, 0
    while at < len(data):
        field, at = _block(data, at, where)
        name, _, value = bytes(field).partition(b"=")
        found[name] = value
    return found


class _Message:
    """A message, taken apart from its beginning."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def take(self, form: str) -> int:
        size = struct.calcsize(form)
        if self.at + size > len(self.data):
            raise ValueError(f"a message of {len(self.data)} bytes that ends early")
        self.at += size
        return struct.unpack_from(form, self.data, self.at - size)[0]

    def many(self, each: int) -> memoryview:
        """As many elements as stand in front."""
        count = self.take("<I")
        if self.at + count * each > len(self.data):
            raise ValueError(f"{count} elements of {each} bytes in a message of {len(self.data)}")
        self.at += count * each
        return self.data[self.at - count * each : self.at]

    def header(self) -> None:
        self.take("<I"), self.take("<Q"), self.many(1)


def read(source: Source) -> Iterator[Columns]:
    if source.head(len(MAGIC)) != MAGIC:
        raise source.faults.error("header", "is not that of a ROS bag, version 2.0")
    topics: dict[int, tuple[str, str]] = {}
    reader = _Reader(source)
    others: set[str] = set()
    for record in _all(source):
        try:
            if record.op == CONNECTION:
                name = record.fields.get(b"topic", b"").decode("utf-8", "replace")
                kind = _fields(record.data, record.at).get(b"type", b"").decode("utf-8", "replace")
                topics[record.number(b"conn")] = (name, kind)
            elif record.op == MESSAGE:
                name, kind = topics.get(record.number(b"conn"), ("", ""))
                if kind not in ARRAYS + PACKETS:
                    continue
                if reader.topic in (None, name):
                    reader.topic = name
                    yield from reader.message(record, kind)
                else:
                    others.add(name)
        except ValueError as error:
            if str(error).startswith(str(source.path)):
                raise
            source.faults.found(BAD, record.at, f"a record with {error}")
    if reader.topic is None:
        kinds = sorted({kind for _, kind in topics.values()})
        raise source.faults.error("connections", f"no messages of events; it holds {', '.join(kinds) or 'none'}"[:300])
    yield from reader.packets.end()
    source.facts["topic"] = reader.topic
    if others:
        words = f"{source.path}: events of {reader.topic} are read; those of {', '.join(sorted(others))} are left"
        warnings.warn(words, EventsWarning, stacklevel=2)


def _all(source: Source) -> Iterator[Record]:
    """Every record of the file and of its chunks; the index at the end is not needed."""
    whole = source.data.data
    try:
        for record in _records(whole, len(MAGIC), None):
            if record.op != CHUNK:
                yield record
                continue
            expand = EXPAND.get(record.fields.get(b"compression", b""))
            try:
                if expand is None:
                    raise ValueError(f"a compression {record.fields.get(b'compression', b'')!r}")
                if record.number(b"size") > compression.MOST:
                    raise ValueError(f"{record.number(b'size')} bytes")
                inside = memoryview(expand(record.data))
            except ValueError as error:
                source.faults.found(BAD, record.at, f"a chunk with {error}")
                continue
            yield from _records(inside, 0, record.at)
    except _Early as early:
        source.faults.found(UNFINISHED, early.at, str(early))


class _Reader:
    """Messages of one topic, decoded with what goes on from message to message."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.topic: str | None = None
        self.states: dict[str, State] = {}
        self.packets = Packets(source, len(source.data) // 2)

    def message(self, record: Record, kind: str) -> Iterator[Columns]:
        message = _Message(record.data)
        message.header()
        height, width = message.take("<I"), message.take("<I")
        if not (self.source.height and self.source.width) and height and width:
            self.source.sensor(height, width)
        if kind in ARRAYS:
            layout, events = "ros_events", message.many(EVENT)
            state = self.states.setdefault(layout, fresh_state(layout))
        else:
            message.take("<Q")
            base = message.take("<Q")
            encoding = bytes(message.many(1)).decode("latin-1")
            big = message.take("<B")
            events = message.many(1)
            if encoding not in ("evt3", "mono") or big:
                raise ValueError(
                    f"events as {encoding}{' of the other byte order' if big else ''}; evt3 and mono are read"
                )
            layout = "evt3" if encoding == "evt3" else "ros_mono"
            if layout == "ros_mono":
                if base >> 62:
                    raise ValueError(f"a time of {base} ns")
                state = fresh_state(layout, base)
            else:
                state = self.states.setdefault(layout, fresh_state(layout))
        place = f"message at byte {record.at}"
        data = np.frombuffer(events, np.uint8)
        yield from self.packets.decode(layout, data, lambda byte: f"{place}, its byte {byte}", state)


def write(path: Path, streams: Iterable[EventStream], height: int, width: int) -> None:
    """Messages dvs_msgs/EventArray of at most 10,000 events on /dvs/events: each a chunk, not compressed, with its index."""
    fits("rosbag", height, width, 1 << 16, 1 << 16)
    connection = _record(
        {b"op": b"\7", b"conn": bytes(4), b"topic": b"/dvs/events"},
        _fields_of(
            {b"topic": b"/dvs/events", b"type": ARRAYS[0].encode(), b"md5sum": MD5, b"message_definition": DEFINITION}
        ),
    )
    chunks: list[tuple[int, bytes]] = []
    with path.open("wb") as file:
        file.write(MAGIC + _bag_header(0, 0))
        for events in streams:
            times_fit("rosbag", events, 51)
            for part in events.by_count(10_000, incomplete=True) if len(events) else [events]:
                stamp, body = _array(part)
                message = _record({b"op": b"\2", b"conn": bytes(4), b"time": stamp}, body)
                inside = (b"" if chunks else connection) + message
                size = struct.pack("<I", len(inside))
                index = stamp + struct.pack("<I", len(inside) - len(message))
                chunks.append((file.tell(), stamp))
                file.write(_record({b"op": b"\5", b"compression": b"none", b"size": size}, inside))
                file.write(_record({b"op": b"\4", b"ver": ONE, b"conn": bytes(4), b"count": ONE}, index))
        end = file.tell()
        file.write(connection)
        for place, stamp in chunks:
            times = {b"chunk_pos": struct.pack("<Q", place), b"start_time": stamp, b"end_time": stamp}
            file.write(_record({b"op": b"\6", b"ver": ONE, **times, b"count": ONE}, bytes(4) + ONE))
        file.seek(len(MAGIC))
        file.write(_bag_header(end, len(chunks)))


ONE = struct.pack("<I", 1)
MD5 = b"5e8beee5a6c107e504c2e78903c224b8"
DEFINITION = b"""std_msgs/Header header
uint32 height
uint32 width
dvs_msgs/Event[] events
================================================================================
MSG: std_msgs/Header
uint32 seq
time stamp
string frame_id
================================================================================
MSG: dvs_msgs/Event
uint16 x
uint16 y
time ts
bool polarity
"""


def _array(part: EventStream) -> tuple[bytes, bytes]:
    """The time of a message, that of its first event, and the message."""
    rows = np.empty(len(part), [("x", "<u2"), ("y", "<u2"), ("s", "<u4"), ("ns", "<u4"), ("p", "u1")])
    seconds = part.t // 1_000_000
    if len(part) and int(seconds[-1]) >> 32:
        raise refuse("rosbag", f"a time of {part.t[-1]} us; seconds have 32 bits (--rebase)")
    for name, column in zip("xyp", (part.x, part.y, part.p), strict=True):
        rows[name] = column
    rows["s"], rows["ns"] = seconds, part.t % 1_000_000 * 1000
    stamp = struct.pack("<II", *(rows[0].item()[2:4] if len(rows) else (0, 0)))
    sizes = struct.pack("<IIII", 0, part.height, part.width, len(part))
    return stamp, struct.pack("<I", 0) + stamp + sizes + rows.tobytes()


def _bag_header(index: int, chunks: int) -> bytes:
    """The first record, filled up to 4096 bytes."""
    fields = {
        b"op": b"\3",
        b"index_pos": struct.pack("<Q", index),
        b"conn_count": ONE,
        b"chunk_count": struct.pack("<I", chunks),
    }
    head = _named(fields)
    fill = 4096 - len(head) - 4
    return head + struct.pack("<I", fill) + b" " * fill


def _record(fields: dict[bytes, bytes], data: bytes) -> bytes:
    return _named(fields) + struct.pack("<I", len(data)) + data


def _fields_of(fields: dict[bytes, bytes]) -> bytes:
    return _named(fields)[4:]


def _named(fields: dict[bytes, bytes]) -> bytes:
    parts = [struct.pack("<I", len(name) + 1 + len(value)) + name + b"=" + value for name, value in fields.items()]
    return struct.pack("<I", sum(map(len, parts))) + b"".join(parts)


FORMATS.register("rosbag", Format("rosbag", "ROS 1 bag (EventArray, EventPacket)", (".bag",), sniff, read, write))
