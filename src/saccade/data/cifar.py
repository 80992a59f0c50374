"""CIFAR-10 and CIFAR-100 in both canonical formats: binary records and pickled Python batches."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from saccade.data.archives import Archive, Report, advice, fetch_or_explain, unpack
from saccade.data.cifar_names import CIFAR10_CLASSES, CIFAR100_CLASSES
from saccade.data.imageset import ArraySet
from saccade.data.safe_pickle import read_plain_pickle
from saccade.data.source import DATA_SETS, DataSource, Parts

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
_TORONTO = "https://www.cs.toronto.edu/~kriz/"


@dataclass(frozen=True)
class CifarFormat:
    """Where the records of a CIFAR set lie.

    In a binary file a record is `label_bytes` bytes, of which the last is the label, then 3072 pixels: 1024 red,
    1024 green, 1024 blue, row by row. A Python batch is a pickled dictionary with `data` uint8 [M, 3072] and a list
    under `label_key`. `train` and `test` give each file (without .bin) and the number of its records. `archives`: the binary
    archive, which is fetched, and the Python one, which is taken if somebody placed it.
    """

    title: str
    classes: tuple[str, ...]
    binary_folder: str
    python_folder: str
    label_bytes: int
    label_key: str
    train: tuple[tuple[str, int], ...]
    test: tuple[tuple[str, int], ...]
    archives: tuple[Archive, Archive]


FORMATS = {
    "cifar10": CifarFormat(
        title="CIFAR-10",
        classes=CIFAR10_CLASSES,
        binary_folder="cifar-10-batches-bin",
        python_folder="cifar-10-batches-py",
        label_bytes=1,
        label_key="labels",
        train=tuple((f"data_batch_{number}", 10_000) for number in range(1, 6)),
        test=(("test_batch", 10_000),),
        archives=(
            Archive(f"{_TORONTO}cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
            Archive(f"{_TORONTO}cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
        ),
    ),
    "cifar100": CifarFormat(
        title="CIFAR-100",
        classes=CIFAR100_CLASSES,
        binary_folder="cifar-100-binary",
        python_folder="cifar-100-python",
        label_bytes=2,  # coarse, then fine
        label_key="fine_labels",
        train=(("train", 50_000),),
        test=(("test", 10_000),),
        archives=(
            Archive(f"{_TORONTO}cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),
            Archive(f"{_TORONTO}cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
        ),
    ),
}


@dataclass(frozen=True)
class Cifar10(DataSource):
    """Ten classes of small colour pictures."""

    summary: ClassVar[str] = (
        "CIFAR-10: 50,000 + 10,000 colour images of 32x32 in 10 classes, in cifar-10-batches-bin or -py"
    )
    form: ClassVar[str] = "cifar10"

    def read(self, root: Path) -> Parts:
        try:
            return Parts(*read_cifar(root, FORMATS[self.form]))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}; {advice(self.form)}") from None

    def prepare(self, root: Path, report: Report) -> Path:
        form = FORMATS[self.form]
        binary, python = root / form.binary_folder, root / form.python_folder
        if missing_binary_file(binary, form) is None:
            report(f"{binary}: complete")
            return binary
        if not binary.is_dir() and missing_python_file(python, form) is None:
            report(f"{python}: complete")
            return python
        archive, folder = form.archives[0], binary
        for placed, place in zip(form.archives, (binary, python), strict=True):
            if (root / placed.file).is_file():
                archive, folder = placed, place
                break
        else:
            fetch_or_explain(self.form, archive, root, report)
        unpack(root / archive.file, archive.md5, folder, report)
        missing = (missing_binary_file if folder == binary else missing_python_file)(folder, form)
        if missing is not None:
            raise ValueError(f"{missing}: absent from {root / archive.file}, or of the wrong size")
        report(f"{folder}: complete; {root / archive.file} may be deleted")
        return folder


@dataclass(frozen=True)
class Cifar100(Cifar10):
    """A hundred classes of small colour pictures."""

    summary: ClassVar[str] = (
        "CIFAR-100: 50,000 + 10,000 colour images of 32x32 in 100 classes, in cifar-100-binary or -python"
    )
    form: ClassVar[str] = "cifar100"


DATA_SETS.register("cifar10", Cifar10())
DATA_SETS.register("cifar100", Cifar100())


def read_cifar(root: Path, form: CifarFormat) -> tuple[ArraySet, ArraySet]:
    """Training and test set from root/binary_folder or else root/python_folder.

    Raises FileNotFoundError or ValueError with one line that names the file and what is wrong with it.
    """
    binary, python = root / form.binary_folder, root / form.python_folder
    if binary.is_dir():
        train, test = (_read_files(binary, ".bin", files, form) for files in (form.train, form.test))
    elif python.is_dir():
        train, test = (_read_files(python, "", files, form) for files in (form.train, form.test))
    else:
        raise FileNotFoundError(f"{form.title}: no folder {form.binary_folder} or {form.python_folder} in {root}")
    return train, test


def missing_binary_file(folder: Path, form: CifarFormat) -> Path | None:
    """The first binary file that is absent or has not its canonical size, else None."""
    for name, records in form.train + form.test:
        path = folder / f"{name}.bin"
        if not path.is_file() or path.stat().st_size != records * (form.label_bytes + PIXELS):
            return path
    return None


def missing_python_file(folder: Path, form: CifarFormat) -> Path | None:
    """The first Python batch that is absent or too small to hold its pixels, else None."""
    for name, records in form.train + form.test:
        path = folder / name
        if not path.is_file() or path.stat().st_size < records * PIXELS:
            return path
    return None


def _read_files(folder: Path, suffix: str, files: tuple[tuple[str, int], ...], form: CifarFormat) -> ArraySet:
    read = _read_binary if suffix else _read_python
    total = sum(records for _, records in files)
    images, labels = np.empty((total, PIXELS), np.uint8), np.empty(total, np.int64)
    at = 0
    for name, records in files:
        here = slice(at, at + records)
        path = folder / f"{name}{suffix}"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; {form.title} is incomplete: place it there")
        pixels, values = read(path, records, form)
        for record, label in enumerate(values):
            if not 0 <= label < len(form.classes):
                raise ValueError(
                    f"{path}: label {label} in record {record}, where 0..{len(form.classes) - 1} are allowed: "
                    "fetch it again"
                )
        images[here], labels[here] = pixels, values
        at += records
    return ArraySet(torch.from_numpy(images).view(-1, *SHAPE), torch.from_numpy(labels), form.classes)


def _read_binary(path: Path, records: int, form: CifarFormat) -> tuple[NDArray, list[int]]:
    record, size = form.label_bytes + PIXELS, path.stat().st_size
    if size != records * record:
        raise ValueError(
            f"{path}: {size} bytes, where {records} records of {record} bytes make {records * record}: fetch it again"
        )
    content = np.fromfile(path, np.uint8).reshape(records, record)
    return content[:, form.label_bytes :], content[:, form.label_bytes - 1].tolist()


def _read_python(path: Path, records: int, form: CifarFormat) -> tuple[NDArray, list[int]]:
    # Labels and file names take well under 100 bytes a record; a larger file is something else.
    if path.stat().st_size > records * (PIXELS + 1000) + 100_000:
        raise ValueError(f"{path}: {path.stat().st_size} bytes, too large for {records} records: is it another file?")
    batch = read_plain_pickle(path)
    if not isinstance(batch, dict):
        raise ValueError(f"{path}: holds no dictionary, so it is no CIFAR batch: fetch it again")
    images, labels = (batch.get(key.encode(), batch.get(key)) for key in ("data", form.label_key))
    if not isinstance(images, np.ndarray) or images.shape != (records, PIXELS):
        shape = f"{list(images.shape)}" if isinstance(images, np.ndarray) else "no array"
        raise ValueError(f"{path}: {shape} under 'data', where [{records}, {PIXELS}] belongs: fetch it again")
    if not isinstance(labels, list) or len(labels) != records or any(type(label) is not int for label in labels):
        raise ValueError(f"{path}: '{form.label_key}' is not a list of {records} integers: fetch it again")
    return images, labels
