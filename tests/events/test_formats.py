"""Every format that can be written gives back what was written; the native decoders equal their plain forms."""

import importlib.util

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saccade.events import (
    FORMATS,
    EventStream,
    EventsWarning,
    concat,
    decoding,
    format_of,
    open_events,
    read_chunks,
    write_events,
)
from saccade.events.faults import Faults
from saccade.events.format import CERTAIN, NO, Format
from saccade.events.plain import LAYOUTS
from saccade.events.source import Source

WRITTEN = [name for name, one in FORMATS.items() if one.write]
LIBRARIES = {"aedat4": "lz4", "hdf5": "h5py", "hdf5_prophesee": "h5py"}
SENSORS = {"aedat2": (180, 240), "aedat3": (128, 128), "nmnist": (34, 34)}  # others take any
BITS = {"nmnist": 23, "aedat2": 32, "dat": 32, "hdf5": 32, "es": 26}  # of a time, others more
NO_SIZE = ("nmnist",)


def needs(name: str) -> None:
    if name in LIBRARIES and importlib.util.find_spec(LIBRARIES[name]) is None:
        pytest.skip(f"{name} needs {LIBRARIES[name]}")


def made(name: str, n: int, seed: int, dense: bool = False) -> EventStream:
    """Random events on a sensor that the format knows; dense: many of one time and row, as vectors want them."""
    rng = np.random.default_rng(seed)
    height, width = SENSORS.get(name, (260, 346))
    t = np.sort(rng.integers(0, 1 << (12 if dense else BITS.get(name, 33)), n))
    x, y, p = rng.integers(0, width, n), rng.integers(0, height, n), rng.integers(0, 2, n)
    if dense:
        y, p, t = y // 100, p * 0 + seed % 2, t // 512
        order = np.lexsort((x, y, t))
        t, x, y, p = t[order], x[order], y[order], p[order]
    return EventStream(t, x, y, p, height, width)


def again(path, name, events, **options):
    """Read with the size given where the file does not hold it."""
    sizes = {"height": events.height, "width": events.width} if name in NO_SIZE else {}
    return open_events(path, **sizes, **options)


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("dense", [False, True], ids=["sparse", "dense"])
def test_round_trip(name, dense, tmp_path, monkeypatch):
    needs(name)
    path = tmp_path / f"x{FORMATS[name].suffixes[0]}"
    events = made(name, 4000, len(name), dense)
    write_events(path, events, name)
    assert format_of(path).name == name
    assert again(path, name, events).equal(events)
    sizes = {"height": events.height, "width": events.width}
    chunks = list(read_chunks(path, events=777, **sizes))
    assert max(map(len, chunks)) <= 777
    assert concat(chunks).equal(events)
    whole = path.read_bytes()
    write_events(path, [events[:0], events[:7], events[7:2500], events[2500:]], name)
    assert again(path, name, events).equal(events)
    monkeypatch.setattr(decoding, "_native", None)
    path.write_bytes(whole)
    assert again(path, name, events).equal(events)
    assert concat(read_chunks(path, events=777, **sizes)).equal(events)


@pytest.mark.parametrize("name", WRITTEN)
def test_no_events(name, tmp_path):
    needs(name)
    path = tmp_path / f"x{FORMATS[name].suffixes[0]}"
    events = made(name, 0, 0)
    write_events(path, events, name)
    assert again(path, name, events, format=name).equal(events)


def test_order_within_a_microsecond_is_kept(tmp_path):
    x = np.array([5, 3, 9, 3, 40, 1, 2, 3, 4, 5, 6, 7])
    events = EventStream(np.full(12, 77), x, np.full(12, 2), x % 2, 34, 128)
    for name in ("evt2", "evt21", "evt3", "dat", "es", "numpy", "rosbag", "text", "container"):
        path = tmp_path / f"{name}{FORMATS[name].suffixes[0]}"
        write_events(path, events, name)
        assert open_events(path).x.tolist() == x.tolist(), name


def test_what_a_format_cannot_hold(tmp_path):
    def refused(name, words, **columns):
        given = {"t": [0], "x": [0], "y": [0], "p": [1], "height": 128, "width": 128} | columns
        path = tmp_path / f"x{FORMATS[name].suffixes[0]}"
        path.write_bytes(b"what was there")
        with pytest.raises(ValueError, match=words) as error:
            write_events(
                path, EventStream(*(np.array(given[c]) for c in "txyp"), given["height"], given["width"]), name
            )
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
        assert path.read_bytes() == b"what was there"
        assert list(tmp_path.iterdir()) == [path]
        path.unlink()

    refused("nmnist", "at most 256 x 240 fit", height=300)
    refused("nmnist", "0 to 8388607 fit", t=[1 << 23])
    refused("nmnist", "times go from -1", t=[-1])
    refused("dat", "0 to 4294967295 fit", t=[1 << 32])
    refused("evt2", "at most 2048 x 2048 fit", width=4096)
    refused("evt3", "shift its times", t=[10**15])
    refused("es", "begins before 0 us, or so late", t=[10**15])
    refused("aedat2", "those of known cameras are 128 x 128", height=100)
    refused("aedat3", "those of known cameras are 128 x 128", height=100)


def test_writing_picks_by_the_name(tmp_path):
    events = made("evt3", 10, 0)
    assert write_events(tmp_path / "x.raw", events).name == "evt3"
    assert write_events(tmp_path / "x.events", events).name == "container"
    with pytest.raises(ValueError, match="no format is written under this name; known: .aedat"):
        write_events(tmp_path / "x.mp3", events)
    with pytest.raises(ValueError, match="unknown event format 'evt4'; did you mean evt3"):
        write_events(tmp_path / "x.raw", events, "evt4")
    one = EventStream(np.array([0, 9]), *np.zeros((3, 2), int), 4, 4)
    with pytest.raises(ValueError, match="time runs back from 9 to 0 us between two streams"):
        write_events(tmp_path / "y.raw", [one, one])
    with pytest.raises(ValueError, match="nobody says the size"):
        write_events(tmp_path / "y.raw", [])
    assert not (tmp_path / "y.raw").exists()


# --- words that no writer makes


def both(layout: str, data: bytes, lenient: bool, part: int | None, path) -> list:
    """What the native and the plain decoder make of bytes: columns, what was left out, or the refusal."""
    found = []
    for native in (True, False):
        source = Source(path, 200, 300, lenient, part)
        content = np.frombuffer(data, np.uint8)
        try:
            parts = list(decoding.decode(source, layout, 0, data=content, native=native))
            columns = [np.concatenate(column).tolist() for column in zip(*parts, strict=True)] if parts else [[]] * 4
        except ValueError as error:
            found.append(str(error))
            continue
        found.append((columns, source.faults.dropped, source.faults.first, source.last, source.most_x, source.most_y))
    return found


evt3_words = st.lists(
    st.one_of(
        st.integers(0, 0xFFFF),
        st.builds(lambda k, v: k << 12 | v, st.sampled_from([0, 2, 3, 4, 5, 6, 8]), st.integers(0, 255)),
    ),
    max_size=60,
).map(lambda words: np.array([0x8000, *words], "<u2").tobytes())
evt2_words = st.lists(
    st.one_of(
        st.integers(0, 2**32 - 1),
        st.builds(
            lambda k, t, x, y: k << 28 | t << 22 | x << 11 | y, st.sampled_from([0, 1, 8]), *[st.integers(0, 63)] * 3
        ),
    ),
    max_size=60,
).map(lambda words: np.array([0x80000000, *words], "<u4").tobytes())


@pytest.mark.skipif(decoding._native is None, reason="the native kernels are not built")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(LAYOUTS)),
    st.one_of(evt3_words, evt2_words, st.binary(max_size=200)),
    st.booleans(),
    st.sampled_from([None, 1, 5, 64]),
    st.integers(0, 40),
)
def test_native_is_plain(tmp_path, layout, data, lenient, part, repeat):
    if part is not None and not lenient:
        part = None  # where the first fault of a part lies is the same; which parts came before it is not
    native, plain = both(layout, data * (1 + repeat), lenient, part, tmp_path / "x")
    assert native == plain


def test_evt3_state(tmp_path):
    """TIME_HIGH repeated, a new one, a wrap; vectors with their parts missing; a TIME_HIGH in the middle of a vector."""
    words = [
        0x8FFF, 0x6005, 0x0003, 0x2007,  # t = FFF005, y 3, x 7 off
        0x8FFF, 0x2808,  # repeated: the time stays; x 8 on
        0x8000, 0x2009,  # falls by more than half the range: wraps, lower bits 0
        0x3805, 0x4003, 0x8001, 0x5081,  # a vector from 5 on: 5 and 6, a new time, then 17 and 24
        0x4001,  # goes on at 25
    ]  # fmt: skip
    path = tmp_path / "x.raw"
    path.write_bytes(b"% evt 3.0\n% geometry 40x10\n% end\n" + np.array(words, "<u2").tobytes())
    for native in (True, False):
        source = Source(path, 10, 40)
        ((t, x, y, p),) = decoding.decode(source, "evt3", path.read_bytes().index(b"end\n") + 4, native=native)
        wrapped = 1 << 24
        assert t.tolist() == [
            0xFFF005,
            0xFFF005,
            wrapped,
            wrapped,
            wrapped,
            wrapped + 4096,
            wrapped + 4096,
            wrapped + 4096,
        ]
        assert x.tolist() == [7, 8, 9, 5, 6, 17, 24, 25]
        assert y.tolist() == [3] * 8
        assert p.tolist() == [0, 1, 0, 1, 1, 1, 1, 1]


def test_evt21_of_both_orders(tmp_path):
    """The order of a word's halves: from the header, or from the words."""
    events = made("evt21", 300, 1, dense=True)
    path = tmp_path / "x.raw"
    write_events(path, events, "evt21")
    head, body = path.read_bytes().split(b"% end\n")
    swapped = np.frombuffer(body, "<u4").reshape(-1, 2)[:, ::-1].tobytes()
    for name, content in (("legacy", body), ("little", swapped)):
        for header in (head.replace(b"legacy", name.encode()), head.replace(b"endianness=legacy;", b"")):
            path.write_bytes(header + b"% end\n" + content)
            assert open_events(path).equal(events), (name, header)


def test_long_gaps_wrap(tmp_path):
    """Counters of 24, 32 and 34 bits: what falls by more than half is a wrap."""
    t = np.array([3, 1 << 23, 1 << 25, (1 << 27) + 5, (1 << 36) + 1, 1 << 37])
    for name in ("evt2", "evt21", "evt3"):
        events = EventStream(t, *np.zeros((3, 6), int), 10, 10)
        write_events(tmp_path / "x.raw", events, name)
        assert open_events(tmp_path / "x.raw").equal(events)
    dat = tmp_path / "x.dat"
    write_events(dat, EventStream(np.array([5, (1 << 32) - 3]), *np.zeros((3, 2), int), 10, 10))
    dat.write_bytes(dat.read_bytes() + np.array([2, 1 << 28], "<u4").tobytes())
    assert open_events(dat).t.tolist() == [5, (1 << 32) - 3, (1 << 32) + 2]


def test_nmnist_marks_let_time_pass(tmp_path):
    """Row 240 says that 2^13 us have passed (as the sets' own reader takes it)."""
    path = tmp_path / "x.bin"
    path.write_bytes(bytes([1, 2, 0x80, 0, 9]) + bytes([0, 240, 0, 0, 0]) + bytes([3, 4, 0, 0, 9]) * 20)
    events = open_events(path, height=34, width=34)
    assert events.t.tolist() == [9] + [9 + 8192] * 20
    assert (events.x[0], events.y[0], events.p[0], events.p[1]) == (1, 2, 1, 0)


def test_atis_event_stream(tmp_path):
    """Changes of brightness are taken, the crossings that measure it are not; rows count from below; 63 us an overflow."""
    change, grey = bytes([5 << 2 | 2, 7, 0, 1, 0]), bytes([1 << 2 | 1, 8, 0, 2, 0])
    path = tmp_path / "x.es"
    path.write_bytes(
        b"Event Stream" + bytes([2, 0, 0, 2, 40, 0, 30, 0]) + change + bytes([0xFD, 0xFE, 0xFC]) + grey + change
    )
    events = open_events(path)
    assert (events.height, events.width) == (30, 40)
    assert events.t.tolist() == [5, 5 + 63 + 126 + 1 + 5]
    assert (events.x[0], events.y[0], events.p[0]) == (7, 28, 1)


def test_text_columns(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("40 30\n0.000012 3 4 1\n0.5000005 5 6 0\n")
    events = open_events(path)
    assert (events.height, events.width) == (30, 40)
    assert events.t.tolist() == [12, 500000]
    path.write_text("x,y,polarity,timestamp\n3,4,1,12\n5,6,0,500000")
    with pytest.warns(EventsWarning, match="took 6 x 7 from its events"):
        events = open_events(path)
    assert (events.t.tolist(), events.y.tolist()) == ([12, 500000], [4, 6])
    path.write_text("12 3 4 -1\n13 3 4 -1\n")
    assert open_events(path, height=9, width=9, lenient=True).p.tolist() == [0, 0]


def test_other_hdf5(tmp_path):
    """Columns xs, ys, ts and ps with seconds, as E2VID's tools write them."""
    h5py = pytest.importorskip("h5py", reason="HDF5 needs h5py")
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("events")
        group["xs"], group["ys"] = np.array([1, 2], "i2"), np.array([3, 4], "i2")
        group["ts"], group["ps"] = np.array([0.5, 0.500001]), np.array([True, False])
        file.attrs["sensor_resolution"] = (30, 40)
    events = open_events(path)
    assert (events.height, events.width, events.t.tolist(), events.p.tolist()) == (30, 40, [500000, 500001], [1, 0])


def test_compressed_hdf5(tmp_path):
    """Blosc with Zstandard, as DSEC's own files have it."""
    h5py = pytest.importorskip("h5py", reason="HDF5 needs h5py")
    plugin = pytest.importorskip("hdf5plugin", reason="DSEC's compression needs hdf5plugin")
    events, path = made("hdf5", 5000, 0), tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        for name in "txyp":
            file.create_dataset(
                f"events/{name}", data=getattr(events, name), chunks=(1000,), **plugin.Blosc(cname="zstd")
            )
    assert open_events(path, height=events.height, width=events.width).equal(events)


def test_dsec_index(tmp_path):
    h5py = pytest.importorskip("h5py", reason="HDF5 needs h5py")
    t = np.array([10**15, 10**15 + 999, 10**15 + 1000, 10**15 + 5000])
    events = EventStream(t, *np.zeros((3, 4), int), 10, 10)
    path = tmp_path / "x.h5"
    write_events(path, [events[:3], events[3:]])
    with h5py.File(path) as file:
        assert file["ms_to_idx"][()].tolist() == [0, 2, 3, 3, 3, 3, 4]
        assert file["t_offset"][()] == 10**15
    assert open_events(path).equal(events)


def test_compressed_bags(tmp_path):
    """A bag as the recorder writes it: connections and messages in chunks, here of bzip2 and LZ4."""
    import bz2
    import struct

    from saccade.events.formats import rosbag

    events = made("rosbag", 30_000, 3)
    path = tmp_path / "x.bag"
    write_events(path, events)
    content = path.read_bytes()
    chunks = [one for one in rosbag._records(memoryview(content), len(rosbag.MAGIC), None) if one.op == rosbag.CHUNK]
    records = b"".join(bytes(chunk.data) for chunk in chunks)
    forms = [(b"bz2", bz2.compress)]
    if importlib.util.find_spec("lz4"):
        import lz4.frame

        forms.append((b"lz4", lz4.frame.compress))
    for name, compress in forms:
        body = compress(records)
        size = struct.pack("<I", len(records))
        chunk = rosbag._named({b"op": b"\5", b"compression": name, b"size": size}) + struct.pack("<I", len(body)) + body
        path.write_bytes(content[: 13 + 4096] + chunk)
        assert open_events(path).equal(events)


def test_mono_packets(tmp_path):
    """The mono encoding of event_camera_msgs: nanoseconds after the time of the packet."""
    import struct

    from saccade.events.formats import rosbag

    kind = rosbag.PACKETS[0].encode()
    words = [(5_000, 3, 4 | 1 << 15), (9_999, 5, 6)]
    raw = b"".join(struct.pack("<IHH", *word) for word in words)
    body = struct.pack("<IQI", 0, 0, 0) + struct.pack("<IIQQ", 30, 40, 0, 2_000_000_500)
    body += struct.pack("<I", 4) + b"mono" + b"\0" + struct.pack("<I", len(raw)) + raw
    bag = (
        rosbag.MAGIC
        + rosbag._named({b"op": b"\7", b"conn": bytes(4), b"topic": b"/e"})
        + rosbag._named({b"type": kind})
    )
    bag += rosbag._named({b"op": b"\2", b"conn": bytes(4)}) + struct.pack("<I", len(body)) + body
    path = tmp_path / "x.bag"
    path.write_bytes(bag)
    events = open_events(path)
    assert (events.height, events.width) == (30, 40)
    assert (events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist()) == (
        [2_000_005, 2_000_010], [3, 5], [4, 6], [1, 0],
    )  # fmt: skip


def test_another_format(tmp_path, monkeypatch):
    """A format is one record: what is registered is found, read in one go or in chunks, and written."""
    monkeypatch.setattr(FORMATS, "_values", dict(FORMATS._values))

    def read(source):
        source.sensor(20, 30)
        rows = np.frombuffer(source.data[4:].tobytes(), "<i4").reshape(-1, 4).T
        yield source.columns(*rows)

    def write(path, streams, height, width):
        with path.open("wb") as file:
            file.write(b"mine")
            for events in streams:
                file.write(np.stack([events.t, events.x, events.y, events.p], 1).astype("<i4").tobytes())

    mine = Format("mine", "mine", (".mine",), lambda path, head: CERTAIN if head[:4] == b"mine" else NO, read, write)
    FORMATS.register("mine", mine)
    events = EventStream(np.arange(9), np.arange(9), np.arange(9), np.arange(9) % 2, 20, 30)
    assert write_events(tmp_path / "x.mine", events) is mine
    assert open_events(tmp_path / "x.mine").equal(events)
    assert [len(chunk) for chunk in read_chunks(tmp_path / "x.mine", events=4)] == [4, 4, 1]
    (tmp_path / "x.mine").write_bytes(b"mine" + np.array([5, 30, 1, 1], "<i4").tobytes())
    with pytest.raises(ValueError, match=r"event 0: an event at \(30, 1\), outside the sensor of 30 x 20"):
        open_events(tmp_path / "x.mine")


def test_events_that_take_few_bytes(tmp_path):
    """More events than a file of such a size is likely to hold: the columns grow."""
    needs("aedat4")
    n = 300_000
    events = EventStream(np.arange(n) // 4096, *np.ones((3, n), int), 30, 40)
    write_events(tmp_path / "x.aedat4", events)
    assert (tmp_path / "x.aedat4").stat().st_size < n
    assert open_events(tmp_path / "x.aedat4").equal(events)


def test_faults_are_counted(tmp_path):
    faults = Faults(tmp_path / "x", True)
    assert faults.words() == ""
    faults.found("events outside", 7, "one")
    faults.found("events outside", 9, "two", 3)
    assert faults.words().endswith("x: left out 4 events outside (first at byte 7)")
