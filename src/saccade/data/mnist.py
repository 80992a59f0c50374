"""MNIST and Fashion-MNIST: four idx files each."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from saccade.data.archives import Archive, Report, advice, check_md5, fetch_or_explain
from saccade.data.digits import DIGIT_NAMES
from saccade.data.idx import find_idx, read_idx
from saccade.data.imageset import ArraySet
from saccade.data.source import DATA_SETS, DataSource, Parts

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@dataclass(frozen=True)
class IdxFormat:
    """A set of this family: its folder below the data folder, its classes, and its archives in the order of FILES."""

    folder: str
    classes: tuple[str, ...]
    archives: tuple[Archive, ...]


def _archives(address: str, *md5: str) -> tuple[Archive, ...]:
    return tuple(Archive(f"{address}{file}.gz", one) for file, one in zip(FILES, md5, strict=True))


FORMATS = {
    "mnist": IdxFormat(
        folder="mnist",
        classes=DIGIT_NAMES,
        archives=_archives(
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
    ),
    "fashion-mnist": IdxFormat(
        folder="fashion-mnist",
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        archives=_archives(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
}


@dataclass(frozen=True)
class Mnist(DataSource):
    """Handwritten digits."""

    summary: ClassVar[str] = (
        "MNIST: 60,000 + 10,000 grey images of 28x28, handwritten digits, idx files (.gz or not) in mnist"
    )
    form: ClassVar[str] = "mnist"

    def read(self, root: Path) -> Parts:
        form = FORMATS[self.form]
        try:
            return Parts(*read_mnist(root / form.folder, form.classes))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}; {advice(self.form)}") from None

    def prepare(self, root: Path, report: Report) -> Path:
        form = FORMATS[self.form]
        folder = root / form.folder
        for archive, file in zip(form.archives, FILES, strict=True):
            path = find_idx(folder, file)
            if path is None:
                fetch_or_explain(self.form, archive, folder, report)
                path = folder / archive.file
            elif path.name == archive.file:
                check_md5(path, archive.md5)
            read_idx(path)
            report(f"{path}: complete")
        return folder


@dataclass(frozen=True)
class FashionMnist(Mnist):
    """Articles of clothing."""

    summary: ClassVar[str] = (
        "Fashion-MNIST: 60,000 + 10,000 grey images of 28x28 in 10 classes, idx files in fashion-mnist"
    )
    form: ClassVar[str] = "fashion-mnist"


DATA_SETS.register("mnist", Mnist())
DATA_SETS.register("fashion-mnist", FashionMnist())


def read_mnist(folder: Path, classes: tuple[str, ...]) -> tuple[ArraySet, ArraySet]:
    """Training and test set, images [M, 1, rows, columns], from the four idx files of `folder`.

    Raises FileNotFoundError or ValueError with one line that names the file.
    """
    paths = [find_idx(folder, name) for name in FILES]
    for path, name in zip(paths, FILES, strict=True):
        if path is None:
            raise FileNotFoundError(f"{folder / name}: no such file, nor {name}.gz: place it there")
    train_images, train_labels, test_images, test_labels = (path for path in paths if path is not None)
    return _pair(train_images, train_labels, classes), _pair(test_images, test_labels, classes)


def _pair(images_path: Path, labels_path: Path, classes: tuple[str, ...]) -> ArraySet:
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3:
        raise ValueError(f"{images_path}: {images.ndim} dimensions, where images have 3: is it another file?")
    if labels.ndim != 1:
        raise ValueError(f"{labels_path}: {labels.ndim} dimensions, where labels have 1: is it another file?")
    if len(images) != len(labels):
        raise ValueError(f"{labels_path}: {len(labels)} labels, but {images_path.name} has {len(images)} images")
    if len(labels) and int(labels.max()) >= len(classes):
        at = int(labels.argmax())
        raise ValueError(
            f"{labels_path}: label {int(labels[at])} at image {at}, where 0..{len(classes) - 1} are allowed"
        )
    return ArraySet(images.unsqueeze(1), labels.long(), classes)
