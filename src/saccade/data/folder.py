"""Image folders: one folder a class, images read when they are asked for."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from saccade.data.imageset import ImageSet, Indices
from saccade.data.quiet import quiet
from saccade.data.source import DATA_SETS, DataSource, Parts, Report

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")  # by content; none of their readers starts a program
MOST_PIXELS = 100_000_000
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class Folder(DataSource):
    """Your own pictures: the data folder itself holds train/CLASS/* and test/CLASS/*, and, if wanted, validation/CLASS/*.

    ``size``: the side in pixels to which they are brought.
    """

    summary: ClassVar[str] = (
        "Your own images: train/CLASS/*.png and test/CLASS/*.png (jpg, ...; optionally validation/CLASS/*)"
    )
    size: int | None = None

    def read(self, root: Path) -> Parts:
        if self.size is None:
            raise ValueError("an image folder needs size, the side length in pixels to which its images are brought")
        train = read_folder(root / "train", self.size)
        test = read_folder(root / "test", self.size, train.classes)
        own = root / "validation"
        return Parts(train, test, read_folder(own, self.size, train.classes) if own.is_dir() else None)

    def prepare(self, root: Path, report: Report) -> Path:
        if not (root / "train").is_dir() or not (root / "test").is_dir():
            raise FileNotFoundError(
                f"{root}: an image folder has train/CLASS/*.png and test/CLASS/*.png (or jpg, ...), optionally "
                "validation/CLASS/*.png: place your images there"
            )
        report(f"{root}: {check_folder(root, report=report):,} images, all readable")
        return root


DATA_SETS.register("folder", Folder())


class FolderSet(ImageSet):
    """Images of a folder, converted to RGB, the shorter side resized to `size`, centre-cropped to a square.

    Orientation marks (EXIF) are not applied, as in the usual ImageNet pipelines.
    """

    def __init__(self, files: Sequence[Path], labels: Tensor, classes: Sequence[str], size: int) -> None:
        """M files, labels int64 [M], side length `size` in pixels."""
        if size < 1:
            raise ValueError(f"size must be at least 1 pixel, not {size}")
        self.files, self.targets, self.classes, self.size = tuple(files), labels, tuple(classes), size
        self.shape = (3, size, size)

    def __getitems__(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Images uint8 [n, 3, size, size], labels int64 [n]. Raises ValueError naming an image it cannot read."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        images = torch.empty(len(index), *self.shape, dtype=torch.uint8)
        for at, i in enumerate(index.tolist()):
            images[at] = read_image(self.files[i], self.size)
        return images, self.targets[index]

    def subset(self, indices: Indices) -> "FolderSet":
        index = torch.as_tensor(indices, dtype=torch.int64)
        return FolderSet([self.files[i] for i in index.tolist()], self.targets[index], self.classes, self.size)


def read_folder(folder: Path, size: int, classes: Sequence[str] | None = None) -> FolderSet:
    """The images of folder/CLASS/*, classes in sorted order, or in the order of `classes` if these are given.

    Hidden files and files without an image's extension are passed over. Raises FileNotFoundError without folder,
    class folders or images, ValueError for a class folder that is not among `classes`.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; an image folder has one folder a class in it")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise FileNotFoundError(f"{folder}: has no class folders: place the images in {folder / 'CLASS'}")
    known = tuple([as_text(name) for name in names] if classes is None else classes)
    files: list[Path] = []
    labels: list[int] = []
    for name in names:
        if as_text(name) not in known:
            raise ValueError(
                f"{folder / name}: there is no class {name} among the training images: remove or rename it"
            )
        images = sorted(path for path in (folder / name).iterdir() if is_image(path))
        if not images:
            raise FileNotFoundError(f"{folder / name}: holds no image ({' '.join(sorted(EXTENSIONS))})")
        files += images
        labels += [known.index(as_text(name))] * len(images)
    return FolderSet(files, torch.tensor(labels, dtype=torch.int64), known, size)


def as_text(name: str) -> str:
    """A file's name as text, for files and pages; bytes that are no UTF-8 as ``\\xe9``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def check_folder(root: Path, *, report: Callable[[str], None] = print) -> int:
    """Decode every image of root/{train,validation,test}, report each unreadable one, return how many images there are.

    Raises FileNotFoundError where the layout is wrong, ValueError (one line, the first bad file) if any is unreadable.
    """
    train = read_folder(root / "train", size=1)
    sets = [train, read_folder(root / "test", 1, train.classes)]
    if (root / "validation").is_dir():
        sets.append(read_folder(root / "validation", 1, train.classes))
    files = [file for data in sets for file in data.files]
    bad: list[str] = []
    for file in files:
        try:
            read_image(file, size=1)
        except ValueError as error:
            bad.append(str(error))
            report(bad[-1])
    if bad:
        raise ValueError(f"{root}: {len(bad)} of {len(files)} images unreadable, the first: {bad[0]}")
    return len(files)


def is_image(path: Path) -> bool:
    """Whether a path is a file with the ending of a picture, not a hidden one."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()


def read_image(path: Path, size: int, channels: int = 3) -> Tensor:
    """uint8 [channels, size, size]: RGB or grey, the shorter side resized to `size`, centre-cropped to a square.

    Raises ValueError naming the file if it cannot be decoded, or for a channel count other than 1 or 3.
    """

    def middle(image: Any) -> Any:
        side = min(image.size)
        left, top = ((length - side) / 2 for length in image.size)
        # The same as resizing the shorter side and then cropping, without the parts that the crop would drop.
        return image.resize((size, size), _BILINEAR, box=(left, top, left + side, top + side))

    return decoded(path, middle, channels)


_BILINEAR = 2  # PIL.Image.Resampling.BILINEAR, without the import


def decoded(path: Path, fit: Callable[[Any], Any], channels: int = 3) -> Tensor:
    """uint8 [channels, H, W] of what ``fit`` makes of the decoded PIL image, RGB or grey. Raises as ``read_image``."""
    from PIL import Image

    if channels not in (1, 3):
        raise ValueError(f"{path}: pictures can be read with 1 or 3 channels, not {channels}")
    with _named(path), quiet(), Image.open(path, formats=FORMATS) as file:
        if file.width * file.height > MOST_PIXELS:
            raise ValueError(f"{file.width} x {file.height} pixels; at most {MOST_PIXELS // 10**6} million are decoded")
        pixels = np.array(fit(_eight_bits(file).convert("RGB" if channels == 3 else "L")))
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], channels)).permute(2, 0, 1)


def size_of(path: Path) -> tuple[int, int]:
    """Width and height in pixels, from the header. Raises as ``read_image``."""
    from PIL import Image

    with _named(path), quiet(), Image.open(path, formats=FORMATS) as file:
        return file.size


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What goes wrong while a picture is read becomes one line that names its file."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError("no regular file")
        yield
    except Exception as error:  # decoders of damaged files raise nearly anything
        reason = " ".join(str(error).split()).replace(f" '{path}'", "") or type(error).__name__
        raise ValueError(f"{path}: unreadable image ({reason}): replace or delete it") from None


def _eight_bits(image: Any) -> Any:
    """A picture whose levels are those of the file in 8 bits. Raises ValueError for more than 16 bits, which say no range."""
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if deep:
        from PIL import Image

        levels = np.asarray(image).astype(np.int64)
        return Image.fromarray(((levels + 128) // 257).astype(np.uint8))
    if image.mode in ("F", "I"):
        raise ValueError(f"mode {image.mode}, 32 bits a channel: convert it to 8 or 16 bits")
    return image
