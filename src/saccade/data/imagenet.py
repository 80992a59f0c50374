"""ImageNet as everybody has it: train/ and val/ with a folder a class."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from saccade.data.folder import read_folder
from saccade.data.source import DATA_SETS, DataSource, Parts, Report


@dataclass(frozen=True)
class ImageNet(DataSource):
    """train/CLASS/* to train on and val/CLASS/* as the test set, below the data folder or its folder ``imagenet``.

    Classes are the names of the folders (n01440764, ...) in order, which is the order of the labels of published networks.
    ``size``: side in pixels; the shorter side is brought to it and the middle cut out, in training too.
    """

    summary: ClassVar[str] = "ImageNet: train/CLASS/* and val/CLASS/*, placed by hand (licensed)"
    size: Annotated[int, Field(ge=1)] = 224

    def read(self, root: Path) -> Parts:
        folder = self._folder(root)
        train = read_folder(folder / "train", self.size)
        return Parts(train, read_folder(folder / "val", self.size, train.classes))

    def prepare(self, root: Path, report: Report) -> Path:
        folder = self._folder(root)
        report(f"{folder}: train and val are there")
        return folder

    @staticmethod
    def _folder(root: Path) -> Path:
        for folder in (root, root / "imagenet"):
            if (folder / "train").is_dir() and (folder / "val").is_dir():
                return folder
        raise FileNotFoundError(f"{root}: ImageNet has train/CLASS/*.JPEG and val/CLASS/*.JPEG: place them here")


DATA_SETS.register("imagenet", ImageNet())
