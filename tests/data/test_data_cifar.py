import os
import pickle

import numpy as np
import pytest
import torch

from saccade import data
from saccade.data import cifar
from saccade.data.cifar import read_cifar


def make_records(form, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (20, 3072), dtype=np.uint8)
    labels = np.arange(20) % len(form.classes)
    return pixels, labels


def write_binary(root, form):
    folder = root / form.binary_folder
    folder.mkdir(parents=True)
    for seed, (name, _) in enumerate(form.train + form.test):
        pixels, labels = make_records(form, seed)
        coarse = np.full((20, form.label_bytes - 1), 7, np.uint8)
        content = np.concatenate([coarse, labels[:, None].astype(np.uint8), pixels], 1)
        (folder / f"{name}.bin").write_bytes(content.tobytes())
    return folder


def write_python(root, form, protocol=2):
    folder = root / form.python_folder
    folder.mkdir(parents=True)
    for seed, (name, _) in enumerate(form.train + form.test):
        pixels, labels = make_records(form, seed)
        batch = {b"data": pixels, form.label_key.encode(): labels.tolist(), b"filenames": [b"a.png"] * 20}
        (folder / name).write_bytes(pickle.dumps(batch, protocol))
    return folder


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_both_formats_give_the_same_images(tmp_path, small_cifar, name):
    form = small_cifar[name]
    write_binary(tmp_path / "a", form)
    write_python(tmp_path / "b", form)
    for ours, theirs in zip(read_cifar(tmp_path / "a", form), read_cifar(tmp_path / "b", form), strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.targets, theirs.targets)
        assert ours.classes == form.classes
    train, test = read_cifar(tmp_path / "a", form)
    assert len(train) == 20 * len(form.train)
    pixels, labels = make_records(form, 0)
    image, label = train[3]
    assert (image.numpy() == pixels[3].reshape(3, 32, 32)).all()  # red, green, blue planes, row by row
    assert label == labels[3]
    pixels, _ = make_records(form, len(form.train))
    assert (test[0][0].numpy().reshape(-1) == pixels[0]).all()


def test_canonical_tables():
    for form, records in ((cifar.FORMATS["cifar10"], 50_000), (cifar.FORMATS["cifar100"], 50_000)):
        assert sum(count for _, count in form.train) == records
        assert sum(count for _, count in form.test) == 10_000
    assert len(set(cifar.FORMATS["cifar10"].classes)) == 10
    assert len(set(cifar.FORMATS["cifar100"].classes)) == 100
    assert list(cifar.FORMATS["cifar100"].classes) == sorted(cifar.FORMATS["cifar100"].classes)


def test_a_batch_written_by_python_2_is_read(tmp_path, small_cifar):
    # The opcodes of the canonical files: protocol 2, str instead of bytes, numpy.core.multiarray._reconstruct.
    form = small_cifar["cifar10"]
    pixels, labels = make_records(form, 0)

    def text(raw):  # BINSTRING, as Python 2 wrote str
        return b"T" + len(raw).to_bytes(4, "little") + raw

    kind = (
        b"cnumpy\ndtype\n"
        + text(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    array = start + b"(K\x01K\x14M\x00\x0c\x86" + kind + b"\x89" + text(pixels.tobytes()) + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([n]) for n in labels.tolist()) + b"e"
    folder = write_python(tmp_path, form)
    (folder / "data_batch_1").write_bytes(
        b"\x80\x02}(" + text(b"data") + array + text(b"labels") + numbers + text(b"batch_label") + text(b"x") + b"u."
    )
    train, _ = read_cifar(tmp_path, form)
    assert (train.images[:20].numpy().reshape(20, -1) == pixels).all()


@pytest.mark.parametrize("change", [-1, -3073, +3073])
def test_a_binary_file_of_the_wrong_size_is_named(tmp_path, small_cifar, change):
    form = small_cifar["cifar10"]
    path = write_binary(tmp_path, form) / "data_batch_3.bin"
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    with pytest.raises(ValueError, match="fetch it again") as error:
        read_cifar(tmp_path, form)
    line = one_line(error)
    assert str(path) in line
    assert str(len(content)) in line
    assert str(len(content) + change) in line


def test_a_missing_file_is_named(tmp_path, small_cifar):
    form = small_cifar["cifar10"]
    path = write_binary(tmp_path, form) / "data_batch_2.bin"
    path.unlink()
    with pytest.raises(FileNotFoundError, match="prepare cifar10") as error:
        data.load("cifar10", tmp_path, validation=0)
    assert str(path) in one_line(error)


def test_a_missing_set_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("SACCADE_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="saccade data prepare cifar100") as error:
        data.load("cifar100", validation=0)
    assert str(tmp_path) in one_line(error)
    assert "cifar-100-python" in one_line(error)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_a_label_out_of_range_is_named(tmp_path, small_cifar, name):
    form = small_cifar[name]
    path = next(iter(sorted(write_binary(tmp_path, form).iterdir())))
    content = bytearray(path.read_bytes())
    content[5 * (3072 + form.label_bytes) + form.label_bytes - 1] = 200
    path.write_bytes(content)
    with pytest.raises(ValueError, match="label 200 in record 5") as error:
        read_cifar(tmp_path, form)
    assert str(path) in one_line(error)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_batch_is_refused_unexecuted(tmp_path, small_cifar, protocol):
    form = small_cifar["cifar10"]
    folder = write_python(tmp_path, form)
    trap = tmp_path / "executed"
    (folder / "data_batch_2").write_bytes(pickle.dumps({b"data": Evil(trap)}, protocol))
    with pytest.raises(ValueError, match="mkdir, which no CIFAR batch needs") as error:
        read_cifar(tmp_path, form)
    assert "data_batch_2" in one_line(error)
    assert not trap.exists()


@pytest.mark.parametrize(
    "asks_for",
    ["builtins eval", "builtins getattr", "numpy load", "numpy.core.multiarray scalar", "_codecs decode", "os system"],
)
def test_only_what_cifar_needs_can_be_imported(tmp_path, small_cifar, asks_for):
    form = small_cifar["cifar10"]
    folder = write_python(tmp_path, form)
    (folder / "test_batch").write_bytes(b"c" + asks_for.replace(" ", "\n").encode() + b"\n.")
    with pytest.raises(ValueError, match="no CIFAR batch needs") as error:
        read_cifar(tmp_path, form)
    assert asks_for.replace(" ", ".") in one_line(error)


@pytest.mark.parametrize(
    "damage", ["truncated", "empty", "noise", "floats", "shape", "labels", "label", "object", "list"]
)
def test_a_damaged_python_batch_is_named(tmp_path, small_cifar, damage):
    form = small_cifar["cifar10"]
    folder = write_python(tmp_path, form)
    path = folder / "data_batch_4"
    pixels, labels = make_records(form, 0)
    batch = {b"data": pixels, b"labels": labels.tolist()}
    content = {
        "truncated": path.read_bytes()[:5000],
        "empty": b"",
        "noise": np.random.default_rng(0).bytes(1000),
        "floats": pickle.dumps(batch | {b"data": pixels.astype(np.float32)[:5]}, 2),
        "shape": pickle.dumps(batch | {b"data": pixels[:, :-1].copy()}, 2),
        "labels": pickle.dumps(batch | {b"labels": labels.tolist()[:-1]}, 2),
        "label": pickle.dumps(batch | {b"labels": [10**30, *labels.tolist()[1:]]}, 2),
        "object": pickle.dumps(batch | {b"data": np.array([None] * 3)}, 2),
        "list": pickle.dumps([1, 2], 2),
    }[damage]
    path.write_bytes(content)
    with pytest.raises(ValueError, match="fetch it again") as error:
        read_cifar(tmp_path, form)
    assert str(path) in one_line(error)


def test_real_cifar10(real_data):
    splits = data.load("cifar10", real_data, validation=5000, train_size=2000, seed=1)
    assert [len(part) for part in splits] == [2000, 5000, 10_000]
    assert splits.train.shape == (3, 32, 32)
    assert splits.validation.targets.bincount().tolist() == [500] * 10
    assert splits.train.targets.bincount().tolist() == [200] * 10
    images, _ = splits.test.__getitems__(range(1000))
    assert 0.4 < images.float().mean() / 255 < 0.55  # the published mean of CIFAR-10 is 0.47
    blue_over_red = images[:, 2].float().mean() / images[:, 0].float().mean()
    assert 0.85 < blue_over_red < 0.97  # 0.447 / 0.491: planes are in RGB order
    # Neighbouring pixels agree in a picture; in a picture read in the wrong order they do not.
    assert (images[..., 1:].float() - images[..., :-1].float()).abs().mean() < 20
