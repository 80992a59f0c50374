"""Dehazing in front of a classifier, from a recipe."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from saccade.data import PIXEL_MAPS, ArraySet, MappedSet, PixelMapConfig
from saccade.dehaze import Dehazer
from saccade.experiment import load_splits, run


def pixel_map(name, **config):
    return PixelMapConfig.parse({"name": name, "config": config}).build()


def pictures(hazy: np.ndarray) -> ArraySet:
    tiles = [hazy[i : i + 32, j : j + 32] for i in range(0, 192, 32) for j in range(0, 320, 64)]
    images = torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).contiguous()
    return ArraySet(images, torch.arange(len(images)) % 2, ("a", "b"))


def test_names_are_registered():
    assert {"dehaze", "haze"} <= set(PIXEL_MAPS)


def test_a_mapped_set_is_the_function_of_the_images(hazy):
    data = pictures(hazy)
    mapped = MappedSet(data, pixel_map("dehaze", preset="clear", window=7, radius=8))
    dehazer = Dehazer("clear", window=7, radius=8)
    images, labels = mapped.__getitems__([3, 1])
    assert (images == dehazer(data.images[[3, 1]])).all()
    assert (labels == data.targets[[3, 1]]).all()
    assert (mapped[3][0] == mapped.subset([3])[0][0]).all()  # no image sees another
    for method in ("dcp", "clahe"):
        one = MappedSet(data, pixel_map("dehaze", method=method))
        assert one[2][0].shape == (3, 32, 32)
    with pytest.raises(ValueError, match="made torch.float32"):
        MappedSet(data, lambda x: x.float())[0]


def test_haze_veils_the_far_end_more(hazy):
    data = pictures(hazy)
    veiled = MappedSet(data, pixel_map("haze", beta=2.0))[0][0].float()
    clear = data[0][0].float()
    assert veiled[:, 0].std() < clear[:, 0].std() * 0.3
    assert (MappedSet(data, pixel_map("haze", beta=0.0))[0][0] == data[0][0]).all()


def test_functions_travel_to_worker_processes(hazy):
    for name, config in (("dehaze", {"window": 7}), ("dehaze", {"method": "dcp"}), ("haze", {"beta": 1.0})):
        function = pixel_map(name, **config)
        images = pictures(hazy).images[:2]
        assert (pickle.loads(pickle.dumps(function))(images) == function(images)).all()
    Dehazer("fidelity")(hazy)
    used = Dehazer("fidelity")
    used(hazy)
    assert (pickle.loads(pickle.dumps(used))(hazy) == used(hazy)).all()


def test_a_recipe_names_transforms(make_recipe, tmp_path):
    transforms = [{"name": "haze", "config": {"beta": 1.0}}, {"name": "dehaze", "config": {"window": 3, "radius": 2}}]
    recipe = make_recipe(data__transforms=transforms, train__epochs=1, data__train_size=64)
    summary = run(recipe, tmp_path / "run", quiet=True, report=False)
    assert 0 <= summary["test_accuracy"] <= 1
    plain = load_splits(make_recipe(data__train_size=64).data)
    veiled = load_splits(recipe.data)
    assert (plain.test[0][0] != veiled.test[0][0]).any()


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        ({"name": "dehase"}, "data.transforms.0: unknown transform of images 'dehase'; did you mean dehaze"),
        (
            {"name": "dehaze", "config": {"wndow": 3}},
            "data.transforms.0: dehaze takes no 'wndow'; did you mean 'window'",
        ),
        ({"name": "haze", "config": {}}, "data.transforms: haze: beta"),
        ({"name": "haze", "config": {"beta": -1}}, "beta is 0 or more"),
    ],
)
def test_bad_transforms_are_named(make_recipe, transform, words):
    with pytest.raises(ValueError, match=words):
        load_splits(make_recipe(data__transforms=[transform]).data)
