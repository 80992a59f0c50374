"""ADE20K as its scene-parsing challenge has it: pictures, and beside them a grey picture whose levels are classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from saccade.data.folder import FORMATS, MOST_PIXELS, read_image
from saccade.data.imageset import ImageSet, Indices
from saccade.data.quiet import quiet
from saccade.data.source import DATA_SETS, DataSource, Parts, Report

UNLABELLED = 255


@dataclass(frozen=True)
class ADE20K(DataSource):
    """images/{training,validation}/NAME.jpg and annotations/{training,validation}/NAME.png, in the data folder or ``ade20k``.

    Level 0 of an annotation is "nothing of these": it becomes 255, and level k class k - 1, uint8 ``[M, size, size]``. The test
    set is validation. size: the shorter side is brought to it and the middle cut out, of both; classes by the nearest pixel.
    Source: Zhou et al. (2017), ADE20K; other sets in this layout are read too.
    """

    summary: ClassVar[str] = "ADE20K: images/ and annotations/, each with training/ and validation/, placed by hand"
    size: Annotated[int, Field(ge=1)] = 512

    def read(self, root: Path) -> Parts:
        folder = self._folder(root)
        return Parts(*(SceneSet(pairs(folder, part), self.size) for part in ("training", "validation")))

    def prepare(self, root: Path, report: Report) -> Path:
        folder = self._folder(root)
        report(f"{folder}: {sum(len(pairs(folder, part)) for part in ('training', 'validation'))} annotated pictures")
        return folder

    @staticmethod
    def _folder(root: Path) -> Path:
        for folder in (root, root / "ade20k"):
            if (folder / "images").is_dir() and (folder / "annotations").is_dir():
                return folder
        raise FileNotFoundError(
            f"{root}: ADE20K has images/training/*.jpg and annotations/training/*.png: place them here"
        )


def pairs(folder: Path, part: str) -> list[tuple[Path, Path]]:
    """Pictures and their annotations in order of names. Raises FileNotFoundError for none, or one without the other."""
    found = sorted(path for path in (folder / "images" / part).glob("*") if path.suffix.lower() in (".jpg", ".png"))
    if not found:
        raise FileNotFoundError(f"{folder / 'images' / part}: no pictures (*.jpg, *.png) in it")
    both = [(path, folder / "annotations" / part / f"{path.stem}.png") for path in found]
    for picture, annotation in both:
        if not annotation.is_file():
            raise FileNotFoundError(f"{annotation}: missing, the annotation of {picture}")
    return both


def read_classes(path: Path, size: int) -> Tensor:
    """uint8 ``[size, size]``: the shorter side resized to ``size`` and the middle cut out, by the nearest pixel.

    Raises ValueError naming the file if it cannot be decoded or holds colours.
    """
    from PIL import Image

    try:
        with quiet(), Image.open(path, formats=FORMATS) as file:
            if file.width * file.height > MOST_PIXELS:
                raise ValueError(
                    f"{file.width} x {file.height} pixels; at most {MOST_PIXELS // 10**6} million are decoded"
                )
            if file.mode not in ("L", "P"):
                raise ValueError(f"mode {file.mode}: classes are levels of grey (L) or of a palette (P)")
            image = Image.fromarray(np.array(file))  # levels as they are stored, a palette's too
    except Exception as error:  # decoders of damaged files raise nearly anything
        reason = " ".join(str(error).split()).replace(f" '{path}'", "") or type(error).__name__
        raise ValueError(f"{path}: unreadable annotation ({reason}): replace or delete it") from None
    side = min(image.size)
    left, top = ((length - side) / 2 for length in image.size)
    box = (left, top, left + side, top + side)
    return torch.from_numpy(np.array(image.resize((size, size), Image.Resampling.NEAREST, box=box)))


class SceneSet(ImageSet):
    """Pictures and classes of their pixels, read when they are asked for; ``targets`` reads all of them."""

    def __init__(self, files: Sequence[tuple[Path, Path]], size: int) -> None:
        self.files, self.size, self.shape = tuple(files), size, (3, size, size)

    @property
    def targets(self) -> Tensor:  # type: ignore[override]
        return self.classes_of(range(len(self)))

    def __len__(self) -> int:
        return len(self.files)

    def classes_of(self, indices: Indices) -> Tensor:
        index = torch.as_tensor(indices, dtype=torch.int64).tolist()
        read = [read_classes(self.files[i][1], self.size) for i in index]
        levels = torch.stack(read) if read else torch.empty(0, self.size, self.size, dtype=torch.uint8)
        return levels - 1  # in uint8 0 becomes 255

    def __getitems__(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Images uint8 ``[n, 3, size, size]``, classes uint8 ``[n, size, size]``. Raises ValueError naming a bad file."""
        index = torch.as_tensor(indices, dtype=torch.int64).tolist()
        images = torch.empty(len(index), *self.shape, dtype=torch.uint8)
        for at, i in enumerate(index):
            images[at] = read_image(self.files[i][0], self.size)
        return images, self.classes_of(indices)

    def subset(self, indices: Indices) -> "SceneSet":
        return SceneSet([self.files[i] for i in torch.as_tensor(indices, dtype=torch.int64).tolist()], self.size)


DATA_SETS.register("ade20k", ADE20K())
