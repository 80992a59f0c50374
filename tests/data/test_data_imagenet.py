"""ImageNet's folders: where they may lie, the order of classes, what is said where they are missing."""

import numpy as np
import pytest
from PIL import Image

from saccade.data import load, prepare

SOURCE = {"name": "imagenet", "config": {"size": 8}}


def make(root, part, name, count, level):
    folder = root / part / name
    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(np.full((10, 12, 3), level, np.uint8)).save(folder / f"{i}.JPEG")


@pytest.mark.parametrize("below", ["", "imagenet"])
def test_it_is_read(tmp_path, below):
    root = tmp_path / below
    for part, count in (("train", 3), ("val", 2)):
        make(root, part, "n02", count, 200)
        make(root, part, "n01", count, 20)
    splits = load(SOURCE, tmp_path, validation=2)
    assert splits.test.classes == ("n01", "n02")
    assert [len(part) for part in splits] == [4, 2, 4]
    images, labels = splits.test.__getitems__(range(4))
    assert images.shape == (4, 3, 8, 8)
    assert ((images.float().mean((1, 2, 3)) > 100).long() == labels).all()
    assert prepare("imagenet", tmp_path, report=lambda line: None) == root


def test_what_is_missing_is_told(tmp_path):
    make(tmp_path, "train", "n01", 1, 5)
    with pytest.raises(FileNotFoundError, match="ImageNet has train/CLASS"):
        load(SOURCE, tmp_path, validation=0)
    make(tmp_path, "val", "n02", 1, 5)
    with pytest.raises(ValueError, match="n02") as error:
        load(SOURCE, tmp_path, validation=0)
    assert "\n" not in str(error.value)
