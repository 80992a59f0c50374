"""The image sets by name: what they are, where they are looked for, how they are split."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from saccade.data.cifar import FORMATS, read_cifar
from saccade.data.folder import read_folder
from saccade.data.idx import read_mnist
from saccade.data.imageset import ArraySet, ImageSet
from saccade.data.split import Splits, stratified, without

# First part of the key of each draw, so that no two draws share a permutation.
_VALIDATION, _TRAIN_SIZE, _TEST_SIZE, _DIGITS_TEST = 2, 3, 4, 5

_DIGITS_TEST_IMAGES = 360  # of 1797
_DIGIT_NAMES = tuple("0123456789")
_FASHION_NAMES = (
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
)

_DESCRIPTIONS = {
    "cifar10": "CIFAR-10: 50,000 + 10,000 colour images of 32x32 in 10 classes, in cifar-10-batches-bin or -py",
    "cifar100": "CIFAR-100: 50,000 + 10,000 colour images of 32x32 in 100 classes, in cifar-100-binary or -python",
    "mnist": "MNIST: 60,000 + 10,000 grey images of 28x28, handwritten digits, idx files (.gz or not) in mnist",
    "fashion-mnist": "Fashion-MNIST: 60,000 + 10,000 grey images of 28x28 in 10 classes, idx files in fashion-mnist",
    "digits": "Digits of scikit-learn: 1,437 + 360 grey images of 8x8, comes with the package, no file needed",
    "folder": "Your own images: train/CLASS/*.png and test/CLASS/*.png (jpg, ...; optionally validation/CLASS/*)",
}


def names() -> list[str]:
    """The names that `load` and `prepare` know."""
    return list(_DESCRIPTIONS)


def describe(name: str) -> str:
    """One line on a set: its images, and where they are looked for below the data folder."""
    _check_name(name)
    return _DESCRIPTIONS[name]


def data_root(root: str | Path | None) -> Path:
    """`root`, else the environment's SACCADE_DATA, else `data`."""
    return Path(root if root is not None else os.environ.get("SACCADE_DATA") or "data").expanduser()


def load(
    name: str,
    root: str | Path | None = None,
    *,
    validation: int,
    seed: int = 0,
    train_size: int | None = None,
    test_size: int | None = None,
    size: int | None = None,
) -> Splits:
    """Train, validation and test set of `name`.

    `validation` images are drawn class-balanced from the training images; then `train_size` (default: all) of the
    rest, and `test_size` (default: all) of the test images, likewise. Each draw depends on the seed and its own
    number alone: the validation set stays the same whatever train_size is. Which 360 images of `digits` are the test
    set does not depend on the seed either, as with the other sets.

    A folder (`root` itself, with `size` in pixels) that has a validation folder gives validation images from there.

    Raises ValueError for impossible numbers and damaged files, FileNotFoundError for missing ones, each in one line.
    """
    _check_name(name)
    folder = data_root(root)
    own_validation: ImageSet | None = None
    if name == "folder":
        if size is None:
            raise ValueError("an image folder needs size, the side length in pixels to which its images are brought")
        train: ImageSet = read_folder(folder / "train", size)
        test: ImageSet = read_folder(folder / "test", size, train.classes)
        if (folder / "validation").is_dir():
            own_validation = read_folder(folder / "validation", size, train.classes)
    else:
        train, test = _READERS[name](folder)
        if size is not None and size != train.shape[1]:
            raise ValueError(f"{name} has images of {train.shape[1]}x{train.shape[2]}; size is for image folders only")

    source = train if own_validation is None else own_validation
    chosen = _draw(source, validation, "validation", _VALIDATION, seed)
    held_out = source.subset(chosen)
    if own_validation is None:
        train = train.subset(without(len(train), chosen))
    if train_size is not None:
        train = train.subset(_draw(train, train_size, "train_size", _TRAIN_SIZE, seed))
    if test_size is not None:
        test = test.subset(_draw(test, test_size, "test_size", _TEST_SIZE, seed))
    return Splits(train, held_out, test)


def _draw(data: ImageSet, count: int, what: str, *key: int) -> torch.Tensor:
    if not 0 <= count <= len(data):
        raise ValueError(f"{what} must be in 0..{len(data)}, the images to take it from, not {count}")
    return stratified(data.labels, count, *key)


def _check_name(name: str) -> None:
    if name not in _DESCRIPTIONS:
        raise ValueError(f"unknown data set {name!r}; known: {', '.join(names())}")


def _read_cifar(name: str, root: Path) -> tuple[ImageSet, ImageSet]:
    try:
        return read_cifar(root, FORMATS[name])
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; {_advice(name)}") from None


def _read_mnist(name: str, root: Path) -> tuple[ImageSet, ImageSet]:
    try:
        return read_mnist(root / name, _FASHION_NAMES if name == "fashion-mnist" else _DIGIT_NAMES)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; {_advice(name)}") from None


def _advice(name: str) -> str:
    return f"`saccade data prepare {name}` fetches the set, SACCADE_DATA names the folder that holds it"


def _read_digits(_: Path) -> tuple[ImageSet, ImageSet]:
    """Grey values 0..16 become (255 * value + 8) // 16, that is 255/16 * value rounded half up."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise ModuleNotFoundError("digits needs scikit-learn: pip install 'saccade[demo]'") from None
    raw = load_digits()
    values = raw.images.astype(np.int64)  # [1797, 8, 8], whole numbers 0..16
    images = torch.from_numpy(((255 * values + 8) // 16).astype(np.uint8)).unsqueeze(1)
    data = ArraySet(images, torch.from_numpy(raw.target.astype(np.int64)), _DIGIT_NAMES)
    test = stratified(data.labels, _DIGITS_TEST_IMAGES, _DIGITS_TEST)
    return data.subset(without(len(data), test)), data.subset(test)


_READERS: dict[str, Callable[[Path], tuple[ImageSet, ImageSet]]] = {
    "cifar10": lambda root: _read_cifar("cifar10", root),
    "cifar100": lambda root: _read_cifar("cifar100", root),
    "mnist": lambda root: _read_mnist("mnist", root),
    "fashion-mnist": lambda root: _read_mnist("fashion-mnist", root),
    "digits": _read_digits,
}
