"""Data sets by name: one record each, which says how a set is read, fetched and described."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch

from saccade.config import Config, Registry
from saccade.data.imageset import ImageSet
from saccade.data.split import Splits, permutation, stratified, without

Report = Callable[[str], None]

DATA_SETS: Registry["DataSource"] = Registry("data set", "`saccade data list`")

# First part of the key of each draw, so that no two draws share a permutation.
_VALIDATION, _TRAIN_SIZE, _TEST_SIZE = 2, 3, 4


class Parts(NamedTuple):
    """What a source reads. Without validation images of its own, these are taken from the training images."""

    train: ImageSet
    test: ImageSet
    validation: ImageSet | None = None


@dataclass(frozen=True)
class DataSource(Config):
    """A data set: its fields are the settings that a recipe gives in ``data.config``.

    ``summary``: one line: how many images of what, and where they lie below the data folder. ``scale``: the pixel value that a
    model sees as 1. ``sequences``: a sample has steps, [T, C, H, W]; else it is a static image, [C, H, W].
    """

    registry: ClassVar[Registry] = DATA_SETS
    summary: ClassVar[str] = ""
    scale: ClassVar[float] = 255.0
    sequences: ClassVar[bool] = False

    def read(self, root: Path) -> Parts:
        """The images below the data folder. Raises FileNotFoundError or ValueError, in one line naming the file."""
        raise NotImplementedError

    def prepare(self, root: Path, report: Report) -> Path:
        """Make the set readable from ``root`` and return the folder that holds it; by default there is nothing to do.

        Files that are complete are left alone; the rest is fetched, resuming what an earlier call began. Raises ConnectionError
        where there is no network (the line says what to place where), ValueError for damaged files.
        """
        report(f"{self.kind()}: nothing to fetch")
        return root

    def describe(self) -> str:
        """One line for listings."""
        return self.summary


def data_root(root: str | Path | None) -> Path:
    """`root`, else the environment's SACCADE_DATA, else `data`."""
    return Path(root if root is not None else os.environ.get("SACCADE_DATA") or "data").expanduser()


def prepare(name: str, root: str | Path | None = None, *, report: Report = print) -> Path:
    """Put the data set of that name in place: see ``DataSource.prepare``. Raises ValueError for an unknown name."""
    return DATA_SETS[name].prepare(data_root(root), report)


def load(
    source: "DataSource | str | Mapping[str, Any]",
    root: str | Path | None = None,
    *,
    validation: int,
    seed: int = 0,
    train_size: int | None = None,
    test_size: int | None = None,
) -> Splits:
    """Train, validation and test set of a source, its name, or ``{name, config}``.

    `validation` images are drawn from the training images (class-balanced, where targets are class labels); then
    `train_size` (default: all) of the rest, and `test_size` (default: all) of the test images, likewise. Each draw depends
    on the seed and its own number alone: the validation set stays the same whatever train_size is. A source that has
    validation images of its own gives them from there.

    Raises ValueError for impossible numbers and damaged files, FileNotFoundError for missing ones, each in one line.
    """
    source = DataSource.parse(source)
    parts = source.read(data_root(root))
    for part in parts:
        if part is not None and (part.scale, part.sequences) != (source.scale, source.sequences):
            raise ValueError(f"{source.kind()}: its images and its record differ in scale or time axis")
    pool = parts.train if parts.validation is None else parts.validation
    chosen = _draw(pool, validation, "validation", _VALIDATION, seed)
    train, held_out, test = parts.train, pool.subset(chosen), parts.test
    if parts.validation is None:
        train = train.subset(without(len(train), chosen))
    if train_size is not None:
        train = train.subset(_draw(train, train_size, "train_size", _TRAIN_SIZE, seed))
    if test_size is not None:
        test = test.subset(_draw(test, test_size, "test_size", _TEST_SIZE, seed))
    return Splits(train, held_out, test)


def _draw(data: ImageSet, count: int, what: str, *key: int) -> torch.Tensor:
    if not 0 <= count <= len(data):
        raise ValueError(f"{what} must be in 0..{len(data)}, the images to take it from, not {count}")
    return stratified(data.targets, count, *key) if data.classes else permutation(len(data), *key)[:count].sort().values
