"""The recordings in the data folder: what they hold, to the event."""

import hashlib

import numpy as np
import pytest

from saccade.events import EventsWarning, format_of, open_events

# file: format, height, width, events, first and last time in us, sha256 of t, x, y (little-endian int64, uint16, uint16) and p
SAMPLES = {
    "formats/aedat2/IMU_rotDisk.aedat": ("aedat2", 180, 240, 374296, 341678, 3508437, "df8aee5d9f56f822"),
    "formats/aedat2/IMU_translBoxes.aedat": ("aedat2", 180, 240, 162771, 294976755, 297049406, "6c8a66a0714dbbdd"),
    "formats/aedat2/pendulo2.aedat": ("aedat2", 128, 128, 160245, 122448607, 134582678, "a3f451391ae57f62"),
    "formats/dvs.es": ("es", 240, 320, 473225, 0, 999000, "978ee882c0c3c16b"),
    "formats/evt2_sample.raw": ("evt2", 480, 640, 539481, 1317888, 1367888, "191b55337d65deee"),
    "formats/evt3_sample.raw": ("evt3", 720, 1280, 219596, 11718656, 11727457, "22f2aebe16606074"),
    "formats/rpg_slider_depth_chunk.txt": ("text", 180, 240, 50000, 3811, 174156, "8d0332e34cde64a3"),
    "formats/sample.aedat4": ("aedat4", 240, 320, 111954, 1605537493718345, 1605537494308262, "d7dac50b4cb58e39"),
    "formats/sample_aedat_header.aedat": ("aedat2", 260, 346, 0, None, None, "e3b0c44298fc1c14"),
    "formats/sample_ncars.dat": ("dat", 42, 78, 2009, 0, 99952, "46329bef9cd1e18a"),
    "formats/sample_nmnist.bin": ("nmnist", 34, 34, 4325, 654, 311175, "dea1c7c041959f56"),
    "formats/test_events_1.bag": ("rosbag", 480, 640, 343474, 7139845, 9218023, "ed39d7471dfc8ed2"),
    "dvs-gesture-10/1.bs2": ("nmnist", 128, 128, 63471, 28, 1449996, "4d954989617a406d"),
    "dvs-gesture-10/10.bs2": ("nmnist", 128, 128, 85936, 24, 1449982, "01f9c1e099f9bd4a"),
    "dvs-gesture-10/2.bs2": ("nmnist", 128, 128, 84260, 45, 1449969, "5eefff3006667270"),
    "dvs-gesture-10/3.bs2": ("nmnist", 128, 128, 113063, 2, 1449994, "5e56a1003b35b493"),
    "dvs-gesture-10/4.bs2": ("nmnist", 128, 128, 151879, 3, 1449993, "caac8722c7d2d601"),
    "dvs-gesture-10/5.bs2": ("nmnist", 128, 128, 181179, 8, 1449984, "0addd9073b9a5adf"),
    "dvs-gesture-10/6.bs2": ("nmnist", 128, 128, 124244, 6, 1449995, "5af478de669af0ac"),
    "dvs-gesture-10/7.bs2": ("nmnist", 128, 128, 159617, 10, 1449997, "5ef79a4a832d1981"),
    "dvs-gesture-10/8.bs2": ("nmnist", 128, 128, 101288, 10, 1449984, "ed8549043d7fd9b1"),
    "dvs-gesture-10/9.bs2": ("nmnist", 128, 128, 141773, 25, 1449993, "6639e4c0978e1f15"),
}
# formats whose files may hold no size of the sensor
NO_SIZE = ("nmnist", "dat", "text")
LIBRARIES = {"aedat4": "lz4.frame"}


def digest(events) -> str:
    found = hashlib.sha256()
    for column, dtype in ((events.t, "<i8"), (events.x, "<u2"), (events.y, "<u2"), (events.p, "u1")):
        found.update(np.ascontiguousarray(column, dtype).tobytes())
    return found.hexdigest()[:16]


@pytest.mark.parametrize("name", SAMPLES)
def test_sample(name, recordings):
    form, height, width, count, first, last, sha = SAMPLES[name]
    path = recordings / name
    assert format_of(path).name == form
    if form in LIBRARIES:
        pytest.importorskip(LIBRARIES[form], reason=f"{form} needs it")
    if form in NO_SIZE:
        with pytest.warns(EventsWarning, match=f"took {width} x {height} from its events"):
            events = open_events(path)
    else:
        events = open_events(path)
    assert (events.height, events.width, len(events)) == (height, width, count)
    if count:
        assert (events.t[0], events.t[-1]) == (first, last)
    assert digest(events) == sha


def test_no_recordings(recordings):
    """What lies beside them is refused in a line."""
    for name, words in (
        ("generic.es", "byte 15: an Event Stream of type generic"),
        ("sample_stmnist.mat", "no format of event recordings that is known"),
        ("aedat2/pendulo2_silver.csv", "line 2: '0.0,nan,nan,nan,nan,211.0' is no event"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            open_events(recordings / "formats" / name)
        assert "\n" not in str(error.value)


def test_commands(recordings, tmp_path, capsys):
    """Every command on every recording; what is converted or cut is the same events."""
    from saccade.cli.main import run

    for name, (form, *size, count, first, _, _) in SAMPLES.items():
        source, target = recordings / name, tmp_path / "x.events"
        options = ["--height", str(size[0]), "--width", str(size[1])]
        if form in LIBRARIES and not importable(LIBRARIES[form]):
            continue
        assert run(["events", "info", str(source), *options]) == 0
        assert run(["events", "stats", str(source), *options]) == 0
        assert run(["events", "convert", str(source), str(target), *options]) == 0
        events = open_events(source, height=size[0], width=size[1])
        assert open_events(target).equal(events), name
        if count:
            window = ["--start-us", str(first + 1000), "--stop-us", str(first + 20_000)]
            assert run(["events", "cut", str(source), str(tmp_path / "y.events"), *window, *options]) == 0
            assert open_events(tmp_path / "y.events").equal(events.between(first + 1000, first + 20_000)), name
        assert capsys.readouterr().err == ""


def importable(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module.partition(".")[0]) is not None
