"""Event for event what independent readers give, where they are installed; they are asked nothing outside the tests."""

import importlib

import numpy as np
import pytest

from saccade.events import EventStream, open_events, write_events

REAL = {
    # file: readers that give the same events (see docs/events.md for those that do not)
    "evt2_sample.raw": ("faery", "evutils", "expelliarmus"),
    "evt3_sample.raw": ("evt3", "evutils"),
    "sample_ncars.dat": ("evutils", "expelliarmus"),
    "dvs.es": ("faery",),
    "sample.aedat4": ("faery", "evutils", "aedat"),
    "sample_nmnist.bin": ("tonic",),
    "test_events_1.bag": ("rosbags",),
}
WRITTEN = {
    "evt2": ("faery", "evutils", "expelliarmus"),
    "evt3": ("faery", "evt3", "evutils"),
    "evt21": ("evutils",),
    "dat": ("faery", "evutils", "expelliarmus"),
    "es": ("faery",),
    "aedat4": ("faery", "evutils", "aedat"),
    "nmnist": ("tonic",),
    "rosbag": ("rosbags",),
    "hdf5": ("evutils",),
}


def by_faery(library, path, size):
    table = library.events_stream_from_file(str(path), dimensions_fallback=size).to_array()
    return table["t"], table["x"], table["y"], table["on"]


def by_evutils(library, path, size):
    with importlib.import_module("evutils.io").EventReader(str(path)) as reader:
        table = reader.read_all()
    return table["t"], table["x"], table["y"], table["p"]


def by_expelliarmus(library, path, size):
    head = path.read_bytes()[:200]
    encoding = "evt2" if b"evt 2.0" in head else "dat"
    table = library.Wizard(encoding=encoding).read(str(path))
    return table["t"], table["x"], table["y"], table["p"]


def by_evt3(library, path, size):
    found = library.decode_file(str(path))
    return found.timestamp, found.x, found.y, found.polarity


def by_aedat(library, path, size):
    table = np.concatenate([packet["events"] for packet in library.Decoder(str(path)) if "events" in packet])
    return table["t"], table["x"], table["y"], table["on"]


def by_tonic(library, path, size):
    dtype = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])
    table = importlib.import_module("tonic.io").read_mnist_file(str(path), dtype)
    return table["t"], table["x"], table["y"], table["p"]


def by_rosbags(library, path, size):
    """The bag's messages by rosbags; their EVT 3.0 words by our decoder, their arrays of events by NumPy."""
    from saccade.events.source import Source

    reader = importlib.import_module("rosbags.rosbag1").Reader(path)
    words, rows = [], []
    with reader:
        for connection, _, raw in reader.messages():
            raw = bytes(raw)
            frame = int.from_bytes(raw[12:16], "little")
            at = 16 + frame + 8
            if connection.msgtype.endswith("EventPacket"):
                at += 16
                at += 4 + int.from_bytes(raw[at : at + 4], "little") + 1
                words.append(raw[at + 4 :])
            else:
                rows.append(raw[at + 4 :])
    if words:
        from saccade.events.decoding import decode

        data = np.frombuffer(b"".join(words), np.uint8)
        ((t, x, y, p),) = decode(Source(path), "evt3", 0, data=data, native=False)
        return t, x, y, p
    fields = [("x", "<u2"), ("y", "<u2"), ("s", "<u4"), ("ns", "<u4"), ("p", "u1")]
    table = np.frombuffer(b"".join(rows), fields)
    return table["s"].astype(np.int64) * 1_000_000 + table["ns"] // 1000, table["x"], table["y"], table["p"]


def same(reader: str, path, events: EventStream) -> None:
    library = pytest.importorskip(reader, reason=f"{reader} is not installed", exc_type=ImportError)
    t, x, y, p = map(np.asarray, globals()[f"by_{reader}"](library, path, (events.width, events.height)))
    assert len(t) == len(events)
    for name, column in (("t", t), ("x", x), ("y", y), ("p", p > 0)):
        assert np.array_equal(column.astype(np.int64), getattr(events, name)), name


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "reader"), [(name, reader) for name, readers in REAL.items() for reader in readers])
def test_real(name, reader, recordings):
    path = recordings / "formats" / name
    sizes = {"sample_ncars.dat": (100, 120), "sample_nmnist.bin": (34, 34)}.get(name)
    events = open_events(path, height=sizes[0], width=sizes[1]) if sizes else open_events(path)
    same(reader, path, events)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "reader"), [(name, reader) for name, readers in WRITTEN.items() for reader in readers]
)
def test_written(name, reader, tmp_path):
    """What our writers write, others read as the same events."""
    pytest.importorskip(reader, reason=f"{reader} is not installed", exc_type=ImportError)
    rng = np.random.default_rng(0)
    n, height, width = 20_000, *((34, 34) if name == "nmnist" else (240, 320))
    columns = (np.sort(rng.integers(0, 3_000_000, n)), rng.integers(0, width, n), rng.integers(0, height, n))
    events = EventStream(*columns, rng.integers(0, 2, n), height, width)
    suffix = {"evt2": ".raw", "evt3": ".raw", "evt21": ".raw", "rosbag": ".bag", "nmnist": ".bin", "hdf5": ".h5"}
    path = tmp_path / f"x{suffix.get(name, f'.{name}')}"
    write_events(path, events, name)
    same(reader, path, events)
