"""Sets of event recordings: published layouts from byte fixtures, what is wrong in one line, frames that are kept."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from saccade.data import DATA_SETS, DataSource, batches, frame_cache, load
from saccade.data.cifar10_dvs import first_of_each
from saccade.data.cifar_names import CIFAR10_CLASSES
from saccade.data.dvs_gesture import CLASSES as GESTURES
from saccade.data.event_frames import Clip, EventSource
from saccade.events import EventStream, EventsWarning, make_frames, write_events

SHARED = Path(os.environ.get("SACCADE_DATA") or Path(__file__).parents[3] / "shared" / "data")
SMALL = {"windows": {"name": "equal_count", "config": {"frames": 3}}}


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SACCADE_CACHE", str(tmp_path / "cache"))


def some_events(height, width, seed=0, count=40, longest=1000):
    draw = np.random.default_rng(seed)
    t = np.sort(draw.integers(0, longest, count))
    return EventStream(
        t, draw.integers(0, width, count), draw.integers(0, height, count), draw.integers(0, 2, count), height, width
    )


def source(name, **config):
    return DataSource.parse({"name": name, "config": {**SMALL, **config}})


def place(path, height, width, seed, format=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    events = some_events(height, width, seed)
    write_events(path, events, format)
    return events


def frames_of(events, **windows):
    return make_frames(events, "count", {"name": "equal_count", "config": {"frames": 3, **windows}})


def make_nmnist(root):
    kept = {}
    for part, digits in (("Train", range(10)), ("Test", range(10))):
        for digit in digits:
            for number in (2, 10):
                path = root / "nmnist" / part / str(digit) / f"{number:05d}.bin"
                kept[path.relative_to(root)] = place(path, 34, 34, digit * 100 + number + (part == "Test"))
    return kept


def test_nmnist_as_published(tmp_path):
    kept = make_nmnist(tmp_path)
    parts = source("nmnist").read(tmp_path)
    assert parts.train.shape == (2, 34, 34)
    assert parts.train.targets.tolist() == [digit for digit in range(10) for _ in range(2)]
    frames, labels = parts.train.__getitems__([7])
    assert labels.tolist() == [3]
    assert torch.equal(frames[0].float(), frames_of(kept[Path("nmnist/Train/3/00010.bin")]))
    (tmp_path / "nmnist" / "Test" / "eleven").mkdir()
    with pytest.raises(ValueError, match="eleven: there is no class of this name; known: 0, 1"):
        source("nmnist").read(tmp_path)
    (tmp_path / "nmnist" / "Test" / "eleven").rmdir()
    for file in (tmp_path / "nmnist" / "Test" / "7").iterdir():
        file.unlink()
    with pytest.raises(FileNotFoundError, match=r"7: holds no \.bin recording"):
        source("nmnist").read(tmp_path)


def test_nmnist_small_with_its_lists(tmp_path):
    folder = tmp_path / "nmnist-small"
    events = [place(folder / f"{number}.bs2", 34, 34, number) for number in (1, 2, 60001)]
    (folder / "train1K.txt").write_text("#sample #class\r\n1\t5\r\n2\t0\r\n")
    (folder / "test100.txt").write_text("60001\t9\n")
    parts = source("nmnist-small", cache=False).read(tmp_path)
    assert parts.train.targets.tolist() == [5, 0]
    assert parts.test.targets.tolist() == [9]
    assert torch.equal(parts.train[1][0], frames_of(events[1]))
    (folder / "train1K.txt").write_text("1 5\n2 zero\n")
    with pytest.raises(ValueError, match=r"train1K\.txt: line 2 is no number and digit: '2 zero'"):
        source("nmnist-small").read(tmp_path)
    (folder / "train1K.txt").write_text("1 5\n3 5\n")
    with pytest.raises(FileNotFoundError, match=r"3\.bs2: no such recording"):
        source("nmnist-small").read(tmp_path)


def test_archives_placed_by_hand_are_unpacked(tmp_path):
    folder = tmp_path / "made" / "NMNISTsmall"
    place(folder / "1.bs2", 34, 34, 1)
    (folder / "train1K.txt").write_text("1 5\n")
    (folder / "test100.txt").write_text("1 5\n")
    root = tmp_path / "data"
    root.mkdir()
    with pytest.raises(FileNotFoundError, match=r"fetch the set from https://.*place nmnist-small\.tar\.xz or"):
        DATA_SETS["nmnist-small"].prepare(root, print)
    with tarfile.open(root / "nmnist-small.tar.xz", "w:xz") as tar:
        tar.add(folder, "NMNISTsmall")
    said: list[str] = []
    assert DATA_SETS["nmnist-small"].prepare(root, said.append) == root / "nmnist-small"
    assert said[0].startswith("unpacking")
    assert len(source("nmnist-small").read(root).train) == 1
    said.clear()
    DATA_SETS["nmnist-small"].prepare(root, said.append)
    assert said == [f"{root / 'nmnist-small'}: complete"]
    shutil.rmtree(root / "nmnist-small")
    (root / "nmnist-small.tar.xz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"nmnist-small\.tar\.xz: cannot be unpacked"):
        DATA_SETS["nmnist-small"].prepare(root, print)
    assert not list(root.glob(".unpacking*"))


@pytest.mark.parametrize(
    ("name", "folder", "archives"),
    [
        ("nmnist", "nmnist", {"Train.zip": ["Train"], "Test.zip": ["Test"]}),
        ("cifar10-dvs", "cifar10-dvs", {f"{name}.zip": [name] for name in CIFAR10_CLASSES}),
        ("n-caltech101", "n-caltech101", {"Caltech101.zip": ["Caltech101"]}),
        ("n-cars", "n-cars", {"Prophesee_Dataset_n_cars.zip": ["all/n-cars_train", "all/n-cars_test"]}),
    ],
)
def test_published_archives_are_unpacked_where_they_are_read(tmp_path, name, folder, archives):
    with pytest.raises(FileNotFoundError, match=f"holds no .*`saccade data prepare {name}` again"):
        DATA_SETS[name].prepare(tmp_path, print)
    for archive, contents in archives.items():
        with zipfile.ZipFile(tmp_path / archive, "w") as packed:
            for one in contents:
                packed.writestr(f"{one}/class/recording", b"")
    assert DATA_SETS[name].prepare(tmp_path, print) == tmp_path / folder
    for contents in archives.values():
        for one in contents:
            assert (tmp_path / folder / Path(one).name / "class" / "recording").is_file()
    assert not list(tmp_path.glob(".unpacking*"))


def test_dvs_gesture_as_published(tmp_path):
    folder = tmp_path / "DvsGesture"
    folder.mkdir()
    events = {}
    for user in ("user01_led", "user24_led"):
        events[user] = some_events(128, 128, len(events), count=400, longest=2000)
        write_events(folder / f"{user}.aedat", events[user], "aedat3")
        (folder / f"{user}_labels.csv").write_text("class,startTime_usec,endTime_usec\n1,100,700\n11,900,1500\n")
    (folder / "trials_to_train.txt").write_text("user01_led.aedat\n\n")
    (folder / "trials_to_test.txt").write_text("user24_led.aedat\n")
    parts = source("dvs-gesture").read(tmp_path)
    assert parts.train.classes == GESTURES
    assert parts.train.targets.tolist() == parts.test.targets.tolist() == [0, 10]
    frames, _ = parts.test.__getitems__([1])
    assert torch.equal(frames[0].float(), frames_of(events["user24_led"].between(900, 1500)))
    labels = folder / "user24_led_labels.csv"
    for text, words in (("12,0,1", "line 2: class 12"), ("1,5", "line 2 is no class"), ("1,9,5", "from 9 to 5")):
        labels.write_text(f"class,start,end\n{text}\n")
        with pytest.raises(ValueError, match=words):
            source("dvs-gesture").read(tmp_path)
    labels.unlink()
    with pytest.raises(FileNotFoundError, match=r"user24_led_labels\.csv: no such file"):
        source("dvs-gesture").read(tmp_path)
    (folder / "trials_to_test.txt").write_text("../elsewhere.aedat\n")
    with pytest.raises(ValueError, match="names a file elsewhere"):
        source("dvs-gesture").read(tmp_path)


def test_cifar10_dvs_as_published(tmp_path):
    """Addresses as jAER writes them; columns as every published run has them (x from the raw y, both from the far end)."""
    draw = np.random.default_rng(0)
    raw_x, raw_y, raw_p = draw.integers(0, 128, 40), draw.integers(0, 128, 40), draw.integers(0, 2, 40)
    words = b"".join(
        struct.pack(">II", int(y) << 8 | int(x) << 1 | int(p), 10 * i)
        for i, (x, y, p) in enumerate(zip(raw_x, raw_y, raw_p, strict=True))
    )
    for name in CIFAR10_CLASSES:
        for number in range(10):
            path = tmp_path / "cifar10-dvs" / name / f"cifar10_{name}_{number}.aedat"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n" + words)
    parts = source("cifar10-dvs").read(tmp_path)
    assert (len(parts.train), len(parts.test)) == (90, 10)
    assert parts.test.targets.tolist() == list(range(10))
    expected = frames_of(EventStream(np.arange(40) * 10, 127 - raw_y, 127 - raw_x, 1 - raw_p, 128, 128))
    assert torch.equal(parts.train.__getitems__([0])[0][0].float(), expected)


def test_first_of_each_class():
    clips = [Clip(Path(f"{label}_{i}"), label) for label in (0, 1) for i in range(10)]
    first, rest = first_of_each(clips, 0.9)
    assert [clip.path.name for clip in rest] == ["0_9", "1_9"]
    assert len(first) == 18


def test_n_caltech101_as_published(tmp_path):
    for name in ("accordion", "BACKGROUND_Google", "yin_yang"):
        for number in range(10):
            place(tmp_path / "n-caltech101" / "Caltech101" / name / f"image_{number:04d}.bin", 180, 240, number)
    parts = source("n-caltech101").read(tmp_path)
    assert parts.train.classes == ("BACKGROUND_Google", "accordion", "yin_yang")
    assert (len(parts.train), len(parts.test)) == (27, 3)
    assert sorted(parts.test.targets.tolist()) == [0, 1, 2]
    assert parts.train.shape == (2, 180, 240)


def test_n_cars_as_published(tmp_path):
    for part in ("n-cars_train", "n-cars_test"):
        for name in ("cars", "background"):
            place(tmp_path / "n-cars" / part / name / "obj_004396_td.dat", 100, 120, len(name))
    parts = source("n-cars", binning=4).read(tmp_path)
    assert parts.train.classes == ("background", "cars")
    assert parts.train.shape == (2, 25, 30)
    assert parts.train.__getitems__([0])[0].sum() == 40


def test_folders_of_recordings(tmp_path):
    for part in ("train", "test", "validation"):
        for i, name in enumerate(("left", "right")):
            place(tmp_path / part / name / "one.npz", 8, 10, i)
    with pytest.raises(ValueError, match="needs height and width"):
        source("event-folder").read(tmp_path)
    settings = {"height": 8, "width": 12, "representation": {"name": "voxel_grid", "config": {"bins": 4}}}
    parts = source("event-folder", **settings).read(tmp_path)
    assert parts.train.shape == (4, 8, 12)
    assert len(parts.validation) == 2
    said: list[str] = []
    DATA_SETS["event-folder"].prepare(tmp_path, said.append)
    assert "6 recordings of numpy, up to 10 x 8 pixels" in said[0]
    with pytest.raises(ValueError, match=r"one\.npz: .*outside the sensor of 9 x 8"):
        source("event-folder", height=8, width=9).read(tmp_path)
    place(tmp_path / "test" / "right" / "two.bin", 8, 10, 0)
    with pytest.raises(ValueError, match="one at a time"):
        source("event-folder", **settings).read(tmp_path)


@pytest.mark.parametrize("name", [name for name, one in DATA_SETS.items() if isinstance(one, EventSource)])
def test_samples_need_the_same_number_of_frames(name):
    for windows in ("time", "count", {"name": "stamps", "config": {"stamps_us": [0, 1]}}):
        with pytest.raises(ValueError, match="samples need the same number of frames"):
            DataSource.parse({"name": name, "config": {"windows": windows}})
    assert DATA_SETS[name].sequences
    assert DATA_SETS[name].scale == 1


def test_what_batches_give_is_what_the_recordings_hold(tmp_path):
    kept = make_nmnist(tmp_path)
    for cache in (True, False):
        splits = load(source("nmnist", cache=cache), tmp_path, validation=10)
        x, _ = next(iter(batches(splits.test, 20, seed=None)))
        assert x.shape == (3, 20, 2, 34, 34)
        assert x.dtype == torch.float32
        assert torch.equal(x[:, 3], frames_of(kept[Path("nmnist/Test/1/00010.bin")]))
        children = list(batches(splits.train, 4, seed=0, workers=1))
        alone = list(batches(splits.train, 4, seed=0))
        for (a, la), (b, lb) in zip(children, alone, strict=True):
            assert torch.equal(a, b)
            assert torch.equal(la, lb)
        assert len(pickle.dumps(splits.train)) < 20_000


def test_kept_frames_have_a_key_of_everything_that_made_them(tmp_path, monkeypatch):
    make_nmnist(tmp_path)
    seen = set()

    def key(**config):
        part = source("nmnist", **config).read(tmp_path).train
        assert part.kept.exists()
        return part.kept.name

    seen.add(key())
    assert key() in seen
    for config in (
        {"binning": 2},
        {"representation": "binary"},
        {"representation": {"name": "gtp", "config": {"beta": 0.5}}},
        {"representation": {"name": "gtp", "config": {"beta": 0.6}}},
        {"windows": {"name": "equal_count", "config": {"frames": 4}}},
        {"windows": {"name": "equal_time", "config": {"frames": 3}}},
    ):
        name = key(**config)
        assert name not in seen
        seen.add(name)
    place(tmp_path / "nmnist" / "Train" / "0" / "00002.bin", 34, 34, seed=12345)
    assert key() not in seen
    monkeypatch.setattr("saccade.__version__", "of another day")
    assert key() not in seen


@pytest.mark.parametrize(
    ("representation", "most", "dtype"),
    [("binary", 1, np.uint8), ("count", 255, np.uint8), ("count", 256, np.uint16), ("time_surface", 1, np.float32)],
)
def test_kept_values_are_exact_in_as_few_bytes_as_they_need(tmp_path, representation, most, dtype):
    for part in ("train", "test"):
        path = tmp_path / part / "a" / "one.npz"
        path.parent.mkdir(parents=True)
        write_events(path, EventStream(*(np.full(most, v) for v in (5, 1, 1, 1)), 2, 3))
    settings = {"height": 2, "width": 3, "windows": {"name": "equal_time", "config": {"frames": 1}}}
    made = [
        source("event-folder", **settings, representation=representation, cache=cache).read(tmp_path).train
        for cache in (True, False)
    ]
    assert np.load(made[0].kept).dtype == dtype
    (a, _), (b, _) = (part.__getitems__([0]) for part in made)
    assert torch.equal(a.float(), b)
    if representation == "count":
        assert a.max() == most


def _kept(root: Path, cache: Path, results) -> None:
    os.environ["SACCADE_CACHE"] = str(cache)
    results.put(source("nmnist").read(root).train.kept.read_bytes())


def test_two_processes_keep_the_same_frames(tmp_path):
    make_nmnist(tmp_path)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    children = [context.Process(target=_kept, args=(tmp_path, tmp_path / "both", results)) for _ in range(2)]
    for child in children:
        child.start()
    first, second = (results.get(timeout=60) for _ in children)
    for child in children:
        child.join()
    assert first == second
    files = [path for path in (tmp_path / "both" / "frames").iterdir() if path.suffix == ".npy"]
    assert len(files) == 2  # train and test, nothing half


def test_a_bad_recording_leaves_nothing_behind(tmp_path):
    make_nmnist(tmp_path)
    bad = tmp_path / "nmnist" / "Train" / "5" / "00002.bin"
    bad.write_bytes(b"\0\0\0\0\5" * 2)
    with pytest.raises(ValueError, match=r"00002\.bin: 2 events cannot fill 3 frames"):
        source("nmnist").read(tmp_path)
    assert not [path for path in frame_cache.cache_root().rglob("*.npy*") if not path.name.endswith(".lock")]


def test_what_is_wrong_is_left_out_where_that_is_asked_for(tmp_path):
    make_nmnist(tmp_path)
    bad = tmp_path / "nmnist" / "Train" / "5" / "00002.bin"
    bad.write_bytes(bad.read_bytes() + bytes([40, 1, 127, 255, 255]))  # a pixel outside the sensor
    with pytest.raises(ValueError, match=r"00002\.bin: .*outside the sensor"):
        source("nmnist").read(tmp_path)
    with pytest.warns(EventsWarning, match=r"00002\.bin"):
        parts = source("nmnist", lenient=True).read(tmp_path)
    assert int(parts.train.__getitems__([10])[0].sum()) == 40


def test_the_real_subset(tmp_path):
    archive = SHARED / "events" / "nmnist-small.tar.xz"
    if not archive.is_file():
        pytest.skip("no N-MNIST: neither in $SACCADE_DATA/events nor in ../shared/data/events")
    (tmp_path / "events").mkdir()
    shutil.copy(archive, tmp_path / "events" / archive.name)
    DATA_SETS["nmnist-small"].prepare(tmp_path, print)
    parts = source("nmnist-small").read(tmp_path)
    assert (len(parts.train), len(parts.test)) == (1000, 100)
    assert torch.bincount(parts.train.targets).tolist() == [97, 116, 99, 93, 105, 92, 94, 117, 87, 100]
    sizes = [(tmp_path / "nmnist-small" / f"{number}.bs2").stat().st_size for number in range(1, 1001)]
    frames, _ = parts.train.__getitems__(range(1000))
    assert int(frames.sum(dtype=torch.int64)) == sum(sizes) // 5 == 4_133_231  # five bytes an event
