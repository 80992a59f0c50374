import contextlib
import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade import data
from saccade.data.idx import read_idx
from saccade.data.mnist import FILES


def idx_bytes(array):
    return (
        bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()
    )


def write_mnist(folder, zipped, train=40, test=20):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    arrays = (
        rng.integers(0, 256, (train, 28, 28)),
        np.arange(train) % 10,
        rng.integers(0, 256, (test, 28, 28)),
        np.arange(test) % 10,
    )
    for name, array in zip(FILES, arrays, strict=True):
        content = idx_bytes(array)
        (folder / (f"{name}.gz" if zipped else name)).write_bytes(gzip.compress(content) if zipped else content)
    return arrays


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_images_and_labels_are_read(tmp_path, name, zipped):
    arrays = write_mnist(tmp_path / name, zipped)
    train, validation, test = data.load(name, tmp_path, validation=0)
    assert train.shape == (1, 28, 28)
    assert len(validation) == 0
    assert (train.__getitems__(range(40))[0][:, 0].numpy() == arrays[0]).all()
    assert train.targets.tolist() == arrays[1].tolist()
    assert (test[7][0][0].numpy() == arrays[2][7]).all()
    assert len(train.classes) == 10


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not an idx file"),
        (b"\x1f\x8b\x08\x00", "not an idx file"),
        (b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "type 0x0d"),
        (b"\0\0\x08\x03\0\0\0\x01", "within its header"),
        (b"\0\0\x08\x01\0\0\0\x05abcd", "but 4 follow"),
        (b"\0\0\x08\x01\0\0\0\x05abcdef", "but more follow"),
        (b"\0\0\x08\x03" + b"\xff" * 12 + b"abc", "claims"),
        (b"\0\0\x08\x09" + bytes(36), "not an idx file"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, complaint):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=complaint) as error:
        read_idx(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [5, 30, -9, -4])
def test_a_truncated_gzip_is_named(tmp_path, keep):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.random.default_rng(0).integers(0, 256, (9, 28, 28))))[:keep])
    with pytest.raises(ValueError, match="truncated or damaged gzip") as error:
        read_idx(path)
    assert str(path) in str(error.value)


@given(st.binary(max_size=64))
def test_arbitrary_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "arbitrary"
    for start in (b"", b"\0\0\x08"):
        path.write_bytes(start + content)
        with contextlib.suppress(ValueError):
            array = read_idx(path)
            assert path.read_bytes().endswith(array.numpy().tobytes())


def test_a_missing_file_says_what_to_do(tmp_path):
    write_mnist(tmp_path / "mnist", zipped=True)
    (tmp_path / "mnist" / f"{FILES[1]}.gz").unlink()
    with pytest.raises(FileNotFoundError, match="saccade data prepare mnist") as error:
        data.load("mnist", tmp_path, validation=0)
    assert FILES[1] in str(error.value)


def test_files_that_do_not_belong_together_are_named(tmp_path):
    folder = tmp_path / "mnist"
    write_mnist(folder, zipped=False)
    labels = folder / FILES[1]
    labels.write_bytes(idx_bytes(np.zeros(39)))
    with pytest.raises(ValueError, match="39 labels, but train-images-idx3-ubyte has 40 images"):
        data.load("mnist", tmp_path, validation=0)
    labels.write_bytes(idx_bytes(np.full(40, 11)))
    with pytest.raises(ValueError, match="label 11 at image 0"):
        data.load("mnist", tmp_path, validation=0)
    labels.write_bytes(idx_bytes(np.zeros((40, 1))))
    with pytest.raises(ValueError, match="2 dimensions, where labels have 1"):
        data.load("mnist", tmp_path, validation=0)
