"""NWPU VHR-10 as it is handed out: aerial pictures, and a text file of boxes for each."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from saccade.data.boxed import Box, Boxed, BoxedSet
from saccade.data.folder import size_of
from saccade.data.source import DATA_SETS, DataSource, Parts, Report

CLASSES = (
    "airplane", "ship", "storage tank", "baseball diamond", "tennis court",
    "basketball court", "ground track field", "harbor", "bridge", "vehicle",
)  # fmt: skip
PICTURES, TRUTH = "positive image set", "ground truth"
_LINE = re.compile(r"\(\s*(\d+)\s*,\s*(\d+)\s*\)\s*,\s*\(\s*(\d+)\s*,\s*(\d+)\s*\)\s*,\s*(\d+)\s*")


@dataclass(frozen=True)
class VHR10(DataSource):
    """ "positive image set"/NNN.jpg and "ground truth"/NNN.txt, in the data folder or its folder ``vhr10``.

    A line of the truth is ``(left,top),(right,bottom),class`` with classes 1 to 10. Its authors gave no split: here every fifth
    picture by name (005, 010, ...) is for the test; papers draw theirs at random, so that figures compare only roughly. The
    pictures without objects are not used. size: the longer side is brought to it; the rest of the square is black.
    Source: Cheng et al. (2014).
    """

    summary: ClassVar[str] = 'NWPU VHR-10 boxes: "positive image set"/ and "ground truth"/, placed by hand'
    size: Annotated[int, Field(ge=1)] = 416

    def read(self, root: Path) -> Parts:
        found = annotated(self._folder(root))
        train = [picture for i, picture in enumerate(found, 1) if i % 5]
        return Parts(BoxedSet(train, self.size), BoxedSet(found[4::5], self.size))

    def prepare(self, root: Path, report: Report) -> Path:
        folder = self._folder(root)
        found = annotated(folder)
        report(f"{folder}: {len(found)} pictures, {sum(len(picture.boxes) for picture in found)} boxes")
        return folder

    @staticmethod
    def _folder(root: Path) -> Path:
        for folder in (root, root / "vhr10"):
            if (folder / PICTURES).is_dir() and (folder / TRUTH).is_dir():
                return folder
        raise FileNotFoundError(f'{root}: VHR-10 has "{PICTURES}"/*.jpg and "{TRUTH}"/*.txt: place them here')


def annotated(folder: Path) -> list[Boxed]:
    """The pictures in order of names, with their boxes. Raises ValueError naming the file and line that does not fit."""
    paths = sorted((folder / PICTURES).glob("*.jpg"))
    if len(paths) < 5:
        raise FileNotFoundError(f"{folder / PICTURES}: {len(paths)} pictures (*.jpg); at least 5 are needed")
    return [Boxed(path, *size_of(path), _boxes(folder / TRUTH / f"{path.stem}.txt")) for path in paths]


def _boxes(path: Path) -> tuple[Box, ...]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing, the boxes of {path.stem}.jpg")
    boxes: list[Box] = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None or not 1 <= int(found[5]) <= len(CLASSES):
            raise ValueError(f"{path}, line {number}: expected (left,top),(right,bottom),class 1 to {len(CLASSES)}")
        left, top, right, bottom = (float(found[i]) for i in range(1, 5))
        boxes.append((int(found[5]) - 1, left, top, right, bottom))
    return tuple(boxes)


DATA_SETS.register("vhr10", VHR10())
