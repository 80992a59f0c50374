"""Detection sets in the layouts of COCO and NWPU VHR-10, on tiny pictures: where boxes come to lie, and what does not fit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from saccade.data import load, prepare
from saccade.data.coco import coco_classes
from saccade.data.vhr10 import CLASSES


def picture(path: Path, width: int, height: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 200, np.uint8)).save(path)


def coco(root: Path, **changes) -> None:
    """Two pictures a part: 8 x 4 with two boxes and a crowd, 4 x 8 with none."""
    for part in ("train2017", "val2017"):
        picture(root / part / "a.png", 8, 4)
        picture(root / part / "b.png", 4, 8)
        sizes = {"a.png": (8, 4), "b.png": (4, 8)}
        record = {
            "images": [
                {"id": 9 - i, "file_name": name, "width": width, "height": height}
                for i, (name, (width, height)) in enumerate(sizes.items())
            ],
            "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
            "annotations": [
                {"image_id": 9, "category_id": 18, "bbox": [2, 1, 4, 2], "iscrowd": 0},
                {"image_id": 9, "category_id": 3, "bbox": [6, -1, 9, 3]},
                {"image_id": 9, "category_id": 3, "bbox": [0, 0, 8, 4], "iscrowd": 1},
            ],
        } | changes
        path = root / "annotations" / f"instances_{part}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(record))


@pytest.mark.parametrize("below", ["", "coco"])
def test_coco_boxes_are_shares_of_the_square(tmp_path, below):
    coco(tmp_path / below)
    test = load({"name": "coco", "config": {"size": 16}}, tmp_path, validation=0).test
    assert [one.path.name for one in test.pictures] == ["b.png", "a.png"]  # in order of their numbers
    images, boxes = test.__getitems__([1, 0])
    none = [-1.0] * 5
    # labels follow the numbers of categories: car 0, dog 1; the second box is cut to the picture; the crowd is left out
    assert boxes.tolist() == [[[1, 0.25, 0.125, 0.75, 0.375], [0, 0.75, 0, 1, 0.25]], [none, none]]
    assert (images[0, :, :8] > 190).all()
    assert not images[0, :, 8:].any()
    assert (images[1, :, :, :8] > 190).all()
    assert not images[1, :, :, 8:].any()
    assert coco_classes(tmp_path / below / "annotations" / "instances_val2017.json") == ("car", "dog")
    assert prepare("coco", tmp_path, report=lambda line: None) == tmp_path / below
    assert torch.equal(test.subset([1]).targets, test.targets[1:])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"annotations": [{"image_id": 9, "category_id": 5, "bbox": [0, 0, 1, 1]}]}, r"annotations\[0\] does not fit"),
        ({"annotations": [{"image_id": 9, "category_id": 3, "bbox": [0, 0, 1]}]}, r"annotations\[0\] does not fit"),
        ({"annotations": [{"image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 1]}]}, "boxes for picture 1, which"),
        ({"images": [{"id": 9, "file_name": "../a.png", "width": 8, "height": 4}]}, "leads out of its folder"),
        ({"images": [{"id": 9, "file_name": "a.png", "width": 0, "height": 4}]}, r"images\[0\] does not fit"),
        ({"images": {}}, "expected lists"),
        ({"categories": [3]}, "categories does not fit"),
    ],
)
def test_coco_files_that_do_not_fit(tmp_path, changes, said):
    coco(tmp_path, **changes)
    with pytest.raises(ValueError, match=said) as error:
        load("coco", tmp_path, validation=0)
    assert "instances_train2017.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_coco_pictures_that_are_missing_or_of_another_size(tmp_path):
    with pytest.raises(FileNotFoundError, match="COCO has train2017"):
        load("coco", tmp_path, validation=0)
    coco(tmp_path)
    picture(tmp_path / "val2017" / "a.png", 5, 4)
    with pytest.raises(ValueError, match=r"a.png: unreadable image \(5 x 4 pixels; its boxes are for 8 x 4\)"):
        load("coco", tmp_path, validation=0).test.__getitems__([1])
    (tmp_path / "val2017" / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match="a.png: missing, and 0 more"):
        prepare("coco", tmp_path, report=lambda line: None)
    (tmp_path / "annotations" / "instances_val2017.json").write_text("{")
    with pytest.raises(ValueError, match="instances_val2017.json: no JSON"):
        load("coco", tmp_path, validation=0)
    (tmp_path / "annotations" / "instances_val2017.json").unlink()
    with pytest.raises(FileNotFoundError, match="instances_val2017.json: missing"):
        load("coco", tmp_path, validation=0)


def vhr10(root: Path, count: int = 6) -> None:
    for i in range(1, count + 1):
        picture(root / "positive image set" / f"{i:03}.jpg", 8, 6)
        truth = root / "ground truth" / f"{i:03}.txt"
        truth.parent.mkdir(exist_ok=True)
        truth.write_text(f"(0,0),(4, 2),{i}\n(2 , 2),(8,6), 10 \n\n")


@pytest.mark.parametrize("below", ["", "vhr10"])
def test_vhr10_gives_every_fifth_picture_to_the_test(tmp_path, below):
    vhr10(tmp_path / below)
    splits = load({"name": "vhr10", "config": {"size": 8}}, tmp_path, validation=1)
    assert [one.path.stem for one in splits.test.pictures] == ["005"]
    assert len(splits.train) == 4
    images, boxes = splits.test.__getitems__([0])
    assert images.shape == (1, 3, 8, 8)
    assert boxes.tolist() == [[[4, 0, 0, 0.5, 0.25], [9, 0.25, 0.25, 1, 0.75]]]
    assert len(CLASSES) == 10
    assert prepare("vhr10", tmp_path, report=lambda line: None) == tmp_path / below


@pytest.mark.parametrize("line", ["(0,0),(4,2),11", "(0,0),(4,2),0", "0,0,4,2,1", "(0,0),(4,2)"])
def test_vhr10_lines_that_do_not_fit(tmp_path, line):
    vhr10(tmp_path)
    (tmp_path / "ground truth" / "002.txt").write_text(f"(0,0),(4,2),1\n{line}\n")
    with pytest.raises(ValueError, match=r"002.txt, line 2: expected \(left,top\)"):
        load("vhr10", tmp_path, validation=0)


def test_vhr10_files_that_are_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="VHR-10 has"):
        load("vhr10", tmp_path, validation=0)
    vhr10(tmp_path)
    (tmp_path / "ground truth" / "003.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"003.txt: missing, the boxes of 003.jpg"):
        load("vhr10", tmp_path, validation=0)
    vhr10(tmp_path)
    (tmp_path / "positive image set" / "001.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="001.jpg: unreadable image"):
        load("vhr10", tmp_path, validation=0)
