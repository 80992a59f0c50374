"""Files that are not what they should be: one line that says where, and with ``lenient`` the rest of the events."""

import importlib.util
import os
import random
import struct
import tracemalloc
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saccade.events import (
    FORMATS,
    EventStream,
    EventsWarning,
    common_format,
    decoding,
    open_events,
    read_chunks,
    write_events,
)
from saccade.events.formats import container

EVT2 = b"% evt 2.0\n% geometry 64x32\n% end\n"
EVT3 = b"% evt 3.0\n% geometry 64x32\n% end\n"
DAT = b"% Data file containing CD events\n% Version 2\n% Width 64\n% Height 32\n\x0c\x08"
LIBRARIES = {"aedat4": "lz4", "hdf5": "h5py", "hdf5_prophesee": "h5py"}


@pytest.fixture(params=["native", "plain"])
def form(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setattr(decoding, "_native", None)
    elif decoding._native is None:
        pytest.skip("the native kernels are not built")


def refused(path: Path, words: str, **options) -> None:
    with pytest.raises(ValueError, match=words) as error:
        open_events(path, **options)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message.replace(str(path), "")) < 300


def left(path: Path, words: str, **options) -> EventStream:
    with pytest.warns(EventsWarning, match=words) as found:
        events = open_events(path, lenient=True, **options)
    assert len(found) == 1
    return events


def evt2(*words: int) -> bytes:
    return EVT2 + np.array(words, "<u4").tobytes()


def evt3(*words: int) -> bytes:
    return EVT3 + np.array(words, "<u2").tobytes()


def dat(*rows: tuple[int, int, int]) -> bytes:
    return DAT + b"".join(struct.pack("<II", t, x | y << 14 | 1 << 28) for t, x, y in rows)


CASES = {
    # name of the file: content, where and what the refusal says, times of the events that lenient keeps
    "cut.raw": (evt2(8 << 28, 1 << 28, 1 << 28 | 5 << 22) + b"\1\2", "byte 45: ends in the middle of a word: 2 bytes", [0, 5]),
    "cut3.raw": (evt3(0x8000, 0x2001) + b"\1", "byte 37: ends in the middle of a word: 1 bytes", [0]),
    "cut.dat": (dat((3, 1, 1), (4, 1, 1))[:-1], "byte 78: ends in the middle of a word: 7 bytes", [3]),
    "back.raw": (evt2(8 << 28 | 1, 0, 8 << 28, 0, 8 << 28 | 2, 0), "byte 45: time runs back from 64 to 0 us", [64, 128]),
    "back.dat": (dat((9, 1, 1), (7, 1, 1), (10, 1, 1)), "byte 78: time runs back from 9 to 7 us", [9, 10]),
    "outside.dat": (dat((1, 63, 31), (2, 64, 0), (3, 0, 0)), r"byte 78: an event at \(64, 0\), outside the sensor", [1, 3]),
    "outside.raw": (evt3(0x8000, 0x0020, 0x2001, 0x0001, 0x2001), r"byte 37: an event at \(1, 32\), outside", [0]),
    "vector.raw": (evt3(0x8000, 0x3040, 0x4001, 0x2001), r"byte 37: an event at \(64, 0\), outside", [0]),
    "kind.raw": (evt2(8 << 28, 5 << 28, 1 << 28), "byte 37: a word of kind 0x5, which the format does not have", [0]),
    "kind3.raw": (evt3(0x8000, 0x1000, 0x2001), "byte 35: a word of kind 0x1, which the format does not have", [0]),
    "no_base.raw": (evt3(0x8000, 0x4001, 0x2001), "byte 35: vectors without a first pixel", [0]),
}  # fmt: skip


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("name", CASES)
def test_words(name, tmp_path):
    content, words, kept = CASES[name]
    path = tmp_path / name
    path.write_bytes(content)
    refused(path, words)
    assert left(path, "left out 1 ").t.tolist() == kept
    with pytest.raises(ValueError, match=words):
        list(read_chunks(path, events=1))
    with pytest.warns(EventsWarning, match="left out 1 "):
        assert [int(t) for chunk in read_chunks(path, events=1, lenient=True) for t in chunk.t] == kept


@pytest.mark.usefixtures("form")
def test_events_before_the_time_are_left_out(tmp_path):
    """A recording that was cut out of a longer one begins with events that nobody can date."""
    for content in (evt2(1 << 28, 8 << 28 | 1, 1 << 28), evt3(0x2001, 0x8001, 0x6000, 0x2001)):
        path = tmp_path / "x.raw"
        path.write_bytes(content)
        with pytest.warns(EventsWarning, match="left out 1 events before the first word that says the time"):
            assert len(open_events(path)) == 1


def test_another_version(tmp_path):
    path = tmp_path / "x.raw"
    path.write_bytes(evt2(8 << 28, 1 << 28))
    refused(path, "header: is of EVT 2.0, and was to be read as EVT 3.0", format="evt3")
    refused(path, "header: is of EVT 2.0, and was to be read as EVT 2.1", format="evt21")
    refused(path, "header: is not that of a DAT file", format="dat")
    path.write_bytes(b"% evt 4.0\n" + bytes(80))
    refused(path, "no format of event recordings that is known; say which: aedat2")
    path.write_bytes(DAT.replace(b"Version 2", b"Version 1"))
    refused(path, "names version 1 of DAT; version 2 is read")
    refused(path, "header: is of a DAT file", format="evt3")
    path.write_bytes(DAT[:-2] + b"\x0e\x08" + bytes(16))
    refused(path, r"byte 68: events of type and size \[14, 8\]")
    for head, words in (
        (b"#!AER-DAT1.0\r\n", "is of AEDAT 1"),
        (b"Event Stream\1\0\0\1", "version 1.0.0; version 2 is read"),
    ):
        path.write_bytes(head + bytes(64))
        refused(path, words)
    path.write_bytes(b"saccade events 2" + bytes(5000))
    refused(path, "version '2' of the container; version 1 is read")
    path.write_bytes(b"#!AER-DAT4.1\r\n" + bytes(64))
    refused(path, "no format of event recordings|is not that of AEDAT 4.0")


def test_dvs128_against_davis(tmp_path):
    """Each camera's addresses under the other's name."""
    rng = np.random.default_rng(0)
    columns = (np.arange(2000), rng.integers(0, 128, 2000), rng.integers(0, 128, 2000), rng.integers(0, 2, 2000))
    small, large = tmp_path / "dvs.aedat", tmp_path / "davis.aedat"
    write_events(small, EventStream(*columns, 128, 128))
    write_events(large, EventStream(*columns, 180, 240))
    for path, name, other in (
        (small, b"ch.unizh.ini.jaer.chip.retina.DVS128", b"DAVIS240C"),
        (large, b"DAVIS240C", b"DVS128"),
    ):
        events = open_events(path)
        whole = path.read_bytes()
        path.write_bytes(whole.replace(name, other))
        refused(path, "header: names (davis240c|dvs128), and the addresses are laid out as those of a (DVS128|DAVIS)")
        path.write_bytes(whole.replace(b"# AEChip: " + name + b"\r\n", b""))  # older files do not say: the addresses do
        assert open_events(path).equal(events)
        path.write_bytes(whole.replace(name, b"NewChip"))
        refused(path, "names the chip newchip; give its height and width")
    whole = small.read_bytes()[:-8] + struct.pack(">II", 1 << 20, 5000)
    small.write_bytes(whole)
    small.write_bytes(whole.replace(b"NewChip", b"ch.unizh.ini.jaer.chip.retina.DVS128"))
    refused(small, "a word of kind 0x100000")


def test_wrong_geometry(tmp_path):
    path = tmp_path / "x.dat"
    path.write_bytes(dat((1, 63, 31)))
    path.write_bytes(dat((1, 63, 31)).replace(b"Width 64", b"Width 63"))
    refused(path, r"outside the sensor of 63 x 32 \(width x height\)")
    assert open_events(path, width=64).width == 64
    path.write_bytes(dat((1, 63, 31)).replace(b"Width 64", b"Width 99999"))
    refused(path, "header: a sensor of 99999 x 32 pixels")
    path.write_bytes(dat((1, 63, 31)).replace(b"% Width 64\n", b""))
    with pytest.warns(EventsWarning, match="took 64 x 32 from its events"):
        assert open_events(path).width == 64
    with pytest.raises(ValueError, match="height is a number of pixels from 1 to 65536, got 0"):
        open_events(path, height=0)
    empty = tmp_path / "x.bin"
    empty.write_bytes(b"")
    refused(empty, "no events and no size of the sensor")
    assert len(open_events(empty, height=3, width=3)) == 0
    with pytest.raises(ValueError, match="is empty"):
        open_events(_empty(tmp_path / "y"))


def _empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def test_mixed_formats(tmp_path):
    (tmp_path / "a.raw").write_bytes(evt2(8 << 28))
    (tmp_path / "b.raw").write_bytes(evt2(8 << 28))
    assert common_format(sorted(tmp_path.iterdir())).name == "evt2"
    (tmp_path / "c.raw").write_bytes(evt3(0x8000))
    with pytest.raises(ValueError, match=r"c.raw: is of format evt3, and .*a.raw of evt2; one at a time"):
        common_format(sorted(tmp_path.iterdir()))


# --- counts and sizes in headers


def huge(tmp_path) -> dict[str, tuple[bytes, str]]:
    """Files of a few bytes whose headers speak of very many."""
    packet = struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, 1 << 30, 1 << 30, 1 << 30)
    one = struct.pack("<I", 0xFFFFFFF0)
    io_header = b"#!AER-DAT4.0\r\n"
    header = container.HEADER.pack(container.MAGIC, 1 << 50, 10, 10, 0, 0)
    npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118)
    npy += (
        b"{'descr': [('t', '<i8'), ('x', '<u2')], 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117)
        + b"\n"
    )
    inner = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118)
    inner += b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "z.npz", "w") as archive:
        for name in "txyp":
            archive.writestr(f"{name}.npy", inner + bytes(8))
    bag = b"#ROSBAG V2.0\n" + struct.pack("<I", 9) + struct.pack("<I", 5) + b"op=\5x" + one
    return {
        "x.aedat": (b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + packet, "of 1073741824 events of 8 bytes, and 0 bytes are left"),
        "x.aedat4": (io_header + one + b"IOHE", "a header of 4294967284 bytes, and 8 are left"),
        "x.events": (header + zlib.crc32(header).to_bytes(8, "little") + bytes(5000), "1125899906842624 events"),
        "x.npy": (npy + bytes(100), "NumPy cannot read it"),
        "x.npz": ((tmp_path / "z.npz").read_bytes(), "t says 1000000000000 numbers of 8 bytes, and 8 bytes are there"),
        "x.bag": (bag, "a record of 4294967280 bytes, and 0 are left"),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["x.aedat", "x.aedat4", "x.events", "x.npy", "x.npz", "x.bag"])
def test_huge_counts(name, tmp_path):
    content, words = huge(tmp_path)[name]
    path = tmp_path / name
    path.write_bytes(content)
    tracemalloc.start()
    try:
        refused(path, words)
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


def test_packets_that_grow(tmp_path):
    """A few bytes that expand to gigabytes are refused before memory is set aside for them."""
    from saccade.events import compression

    frame = pytest.importorskip("lz4.frame", reason="LZ4 needs lz4")
    zstandard = pytest.importorskip("zstandard", reason="Zstandard needs zstandard")
    with pytest.raises(ValueError, match="a Zstandard frame of 10000000000 bytes"):
        compression.zstd(b"\x28\xb5\x2f\xfd\xe0" + (10**10).to_bytes(8, "little") + bytes(40))
    body = bytes(1 << 20)
    for expand, packed in ((compression.lz4, frame.compress(body)), (compression.zstd, zstandard.compress(body))):
        assert expand(packed) == body
        for wrong in (packed[:-5], b"", packed[1:], b"nothing of the kind"):
            with pytest.raises(ValueError, match="frame"):
                expand(wrong)


def test_container_is_checked(tmp_path):
    path = tmp_path / "x.events"
    events = EventStream(np.arange(10), *np.ones((3, 10), int), 4, 4)
    write_events(path, events)
    whole = path.read_bytes()
    starts, end = container.layout(10)
    assert len(whole) == end
    for at, words in (
        (20, "was changed: its check sum"),
        (starts[0], "times from 255 to 9 us; the header says 0 to 9"),
    ):
        path.write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
        refused(path, words)
    for content in (whole[:-1], whole + b"\0", whole[:40], whole[:4096]):
        path.write_bytes(content)
        refused(path, "the file has|the header ends early")
    path.write_bytes(whole[: starts[1] + 6] + b"\x09" + whole[starts[1] + 7 :])
    stream = open_events(path)  # mapped, not read
    assert len(stream[:3]) == 3
    with pytest.raises(ValueError, match="event 1: x = 9 is outside 0..3"):
        stream[2:5]
    with pytest.raises(ValueError, match="outside the sensor of 4 x 4"):
        list(read_chunks(path))
    assert left(path, "left out 1 events outside the sensor").t.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_compression_that_is_not_there(tmp_path):
    """Prophesee's ECF is a filter of its own; without it the file is refused in a line."""
    h5py = pytest.importorskip("h5py", reason="HDF5 needs h5py")
    path = tmp_path / "x.hdf5"
    dtype = np.dtype([("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
    with h5py.File(path, "w") as file:
        rows = file.create_dataset("CD/events", (16,), dtype, chunks=(16,), compression="gzip")
        rows[:] = 1
    content = path.read_bytes().replace(b"deflate\0", b"ecf\0\0\0\0\0")
    place = content.index(b"ecf\0")
    path.write_bytes(content[: place - 8] + (36559).to_bytes(2, "little") + content[place - 6 :])
    refused(path, "HDF5: ")


def test_missing_library(tmp_path, monkeypatch):
    """The extra is named where it is needed, and nowhere else."""
    import sys

    path = tmp_path / "x.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'saccade-snn\[events\]'"):
        open_events(path)


# --- any bytes


def written(name: str, path: Path) -> tuple[bytes, dict]:
    if name in LIBRARIES and importlib.util.find_spec(LIBRARIES[name]) is None:
        pytest.skip(f"{name} needs {LIBRARIES[name]}")
    height, width = {"aedat2": (180, 240), "aedat3": (128, 128), "nmnist": (34, 34)}.get(name, (30, 40))
    rng = np.random.default_rng(0)
    columns = (np.sort(rng.integers(0, 9999, 200)), rng.integers(0, width, 200), rng.integers(0, height, 200))
    write_events(path, EventStream(*columns, rng.integers(0, 2, 200), height, width), name)
    return path.read_bytes(), {"height": height, "width": width}


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, a piece left out or doubled, or the end cut off."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            del data[at:]
        elif kind == 1:
            del data[at : at + rng.randint(1, 20)]
        elif kind == 2:
            data[at:at] = data[at : at + rng.randint(1, 20)]
        elif at < len(data):
            data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        if not data:
            break
    return bytes(data)


def tried(path: Path, name: str, sizes: dict) -> None:
    """Read in all ways: events, or one line that names the file."""
    found = []
    for options in ({}, {"lenient": True}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EventsWarning)
            try:
                events = open_events(path, name, **sizes, **options)
                checked = EventStream(events.t, events.x, events.y, events.p, events.height, events.width)
                found.append(len(checked))
                if not options:
                    chunks = list(read_chunks(path, name, events=64, **sizes))
                    assert sum(map(len, chunks)) == len(checked)
            except ValueError as error:
                message = str(error)
                stream = name == "container" and message.startswith("event ")  # a map, checked when it is looked at
                assert stream or str(path) in message, message
                assert "\n" not in message
                assert len(message.replace(str(path), "")) < 400, message


@pytest.mark.parametrize("name", [name for name, one in FORMATS.items() if one.write])
def test_mutations(name, tmp_path):
    path = tmp_path / f"x{FORMATS[name].suffixes[0]}"
    content, sizes = written(name, path)
    for number in range(20 if name.startswith("hdf5") else 60):
        path.write_bytes(mutated(content, random.Random(f"{name} {number}")))
        tried(path, name, sizes)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([name for name in FORMATS if not name.startswith("hdf5")]), st.binary(max_size=300))
def test_any_bytes(tmp_path, name, content):
    path = tmp_path / "x"
    path.write_bytes(content)
    tried(path, name, {"height": 30, "width": 40})


@pytest.mark.parametrize("kind", ["evt2", "evt21", "evt3", "dat"])
def test_times_below_zero_are_refused_by_formats_that_count_from_zero(kind, tmp_path):
    t = np.array([-5, 0, 3])
    events = EventStream(t, np.zeros(3, int), np.zeros(3, int), np.ones(3, int), height=4, width=4)
    with pytest.raises(ValueError, match="times go from -5 to 3 us"):
        write_events(tmp_path / "x.raw", events, kind)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_stays_and_links_are_followed(tmp_path):
    events = EventStream(np.arange(3), np.zeros(3, int), np.zeros(3, int), np.ones(3, int), height=4, width=4)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match="pipe: is no regular file"):
        write_events(pipe, events, "text")
    assert pipe.is_fifo()
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "target.txt")
    write_events(link, events, "text")
    assert link.is_symlink()
    assert len(open_events(tmp_path / "target.txt", height=4, width=4)) == 3


def test_windows_far_away_are_empty_or_whole():
    events = EventStream(np.arange(3), np.zeros(3, int), np.zeros(3, int), np.ones(3, int), height=4, width=4)
    assert len(events.between(0, 10**30)) == 3
    assert len(events.between(-(10**30), 1)) == 1
