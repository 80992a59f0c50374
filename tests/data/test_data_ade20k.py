"""ADE20K's folders on two tiny pictures: what becomes of levels, and what is said of files that do not fit."""

import numpy as np
import pytest
import torch
from PIL import Image

from saccade.data import load, prepare

SOURCE = {"name": "ade20k", "config": {"size": 4}}


def make(root, part="training", name="a", levels=None):
    for folder in ("images", "annotations"):
        (root / folder / part).mkdir(parents=True, exist_ok=True)
    levels = np.arange(32, dtype=np.uint8).reshape(4, 8) if levels is None else levels
    Image.fromarray(np.full((*levels.shape, 3), 90, np.uint8)).save(root / "images" / part / f"{name}.jpg")
    Image.fromarray(levels).save(root / "annotations" / part / f"{name}.png")


@pytest.mark.parametrize("below", ["", "ade20k"])
def test_pictures_and_classes_are_cut_alike(tmp_path, below):
    for part in ("training", "validation"):
        make(tmp_path / below, part)
    splits = load(SOURCE, tmp_path, validation=0)
    images, classes = splits.test.__getitems__([0])
    assert images.shape == (1, 3, 4, 4)
    assert classes.dtype == torch.uint8
    middle = np.arange(32).reshape(4, 8)[:, 2:6] - 1  # of a picture twice as wide as high
    assert classes[0].tolist() == middle.tolist()
    assert torch.equal(splits.test.targets, classes)
    assert prepare("ade20k", tmp_path, report=lambda line: None) == tmp_path / below


def test_the_level_of_nothing_is_unlabelled(tmp_path):
    for part in ("training", "validation"):
        make(tmp_path, part, levels=np.zeros((4, 4), np.uint8))
    assert load(SOURCE, tmp_path, validation=0).test.targets.unique().tolist() == [255]


def test_what_does_not_fit_is_told_in_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="ADE20K has images/training"):
        load(SOURCE, tmp_path, validation=0)
    make(tmp_path)
    with pytest.raises(FileNotFoundError, match="validation: no pictures"):
        load(SOURCE, tmp_path, validation=0)
    make(tmp_path, "validation", "b")
    annotation = tmp_path / "annotations" / "validation" / "b.png"
    Image.fromarray(np.zeros((4, 8, 3), np.uint8)).save(annotation)
    with pytest.raises(ValueError, match=r"b.png: unreadable annotation \(mode RGB") as error:
        load(SOURCE, tmp_path, validation=0).test.__getitems__([0])
    assert "\n" not in str(error.value)
    annotation.write_bytes(b"no picture")
    with pytest.raises(ValueError, match="b.png: unreadable annotation"):
        load(SOURCE, tmp_path, validation=0).test.__getitems__([0])
    annotation.unlink()
    with pytest.raises(FileNotFoundError, match="b.png: missing, the annotation of"):
        load(SOURCE, tmp_path, validation=0)
