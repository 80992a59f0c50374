"""COCO detection as it is handed out: folders of pictures, and a JSON file of boxes for each."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from saccade.data.boxed import Box, Boxed, BoxedSet
from saccade.data.source import DATA_SETS, DataSource, Parts, Report

PARTS = ("train2017", "val2017")


@dataclass(frozen=True)
class COCO(DataSource):
    """train2017/, val2017/ and annotations/instances_{train,val}2017.json, in the data folder or its folder ``coco``.

    Classes are the categories in order of their numbers, which have gaps: ``coco_classes`` tells their names. Boxes of crowds
    are left out. The test set is val2017. size: the longer side is brought to it; the rest of the square is black.
    Source: Lin et al. (2014); other sets in this layout are read too.
    """

    summary: ClassVar[str] = "COCO boxes: train2017/, val2017/ and annotations/instances_*.json, placed by hand"
    size: Annotated[int, Field(ge=1)] = 416

    def read(self, root: Path) -> Parts:
        folder = self._folder(root)
        return Parts(*(BoxedSet(annotated(folder, part), self.size) for part in PARTS))

    def prepare(self, root: Path, report: Report) -> Path:
        folder = self._folder(root)
        for part in PARTS:
            pictures = annotated(folder, part)
            missing = [picture.path for picture in pictures if not picture.path.is_file()]
            if missing:
                raise FileNotFoundError(f"{missing[0]}: missing, and {len(missing) - 1} more that {part}'s boxes name")
            report(f"{folder / part}: {len(pictures)} pictures, {sum(len(p.boxes) for p in pictures)} boxes")
        return folder

    @staticmethod
    def _folder(root: Path) -> Path:
        for folder in (root, root / "coco"):
            if (folder / "annotations").is_dir():
                return folder
        raise FileNotFoundError(
            f"{root}: COCO has train2017/*.jpg, val2017/*.jpg and annotations/instances_*2017.json: place them here"
        )


def _loaded(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: missing: place COCO's annotations here") from None
    except ValueError as error:
        raise ValueError(f"{path}: no JSON ({error})") from None
    if not isinstance(found, dict) or not all(isinstance(found.get(key), list) for key in _LISTS):
        raise ValueError(f"{path}: expected lists {', '.join(_LISTS)}")
    return found


_LISTS = ("images", "annotations", "categories")


def coco_classes(path: Path) -> tuple[str, ...]:
    """Names of the classes of an ``instances_*.json``, in the order of their labels, as ``task.names`` takes them."""
    return tuple(name for _, name in sorted((one["id"], one["name"]) for one in _loaded(path)["categories"]))


def annotated(folder: Path, part: str) -> list[Boxed]:
    """The pictures of a part in order of their numbers, with their boxes.

    Raises ValueError naming the file and the entry that does not fit, FileNotFoundError for a missing file.
    """
    path = folder / "annotations" / f"instances_{part}.json"
    found, boxes = _loaded(path), defaultdict(list)
    at = "categories"
    try:
        label = {number: k for k, number in enumerate(sorted(one["id"] for one in found["categories"]))}
        for i, one in enumerate(found["annotations"]):
            at = f"annotations[{i}]"
            if not one.get("iscrowd", 0):
                boxes[one["image_id"]].append(_box(label[one["category_id"]], one["bbox"]))
        pictures = []
        for i, one in sorted(enumerate(found["images"]), key=lambda pair: pair[1]["id"]):
            at = f"images[{i}]"
            width, height, name = int(one["width"]), int(one["height"]), one["file_name"]
            if min(width, height) < 1:
                raise ValueError(f"{width} x {height} pixels")
            if Path(name).name != name:
                raise ValueError(f"file_name {name!r} leads out of its folder")
            pictures.append(Boxed(folder / part / name, width, height, tuple(boxes.pop(one["id"], ()))))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise ValueError(f"{path}: {at} does not fit ({reason})") from None
    if boxes:
        raise ValueError(f"{path}: boxes for picture {next(iter(boxes))}, which is not among its images")
    if not pictures:
        raise ValueError(f"{path}: no pictures in it")
    return pictures


def _box(label: int, corner: Any) -> Box:
    left, top, width, height = (float(value) for value in corner)
    return label, left, top, left + width, top + height


DATA_SETS.register("coco", COCO())
