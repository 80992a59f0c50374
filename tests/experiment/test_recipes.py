"""Recipes: read, changed, refused in one line with the key's path."""

import copy
import re
from pathlib import Path

import pytest
import yaml

from saccade.experiment import dump, load_recipe, override, parse

ROOT = Path(__file__).parents[2]
RECIPE = """
name: t
model: {name: or_resnet18}
data: {name: digits, validation: 10}
train: {epochs: 3, batch_size: 4, lr: 1e-3}
"""


def test_recipes_load_and_dump(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.replace("1e-3", "0.001"))
    recipe = load_recipe(path, ["train.lr=1e-2", "data.augment=[flip]", "model.config.T=3", "seed=7"])
    assert (recipe.train.lr, recipe.data.augment, recipe.model.config, recipe.seed) == (0.01, ("flip",), {"T": 3}, 7)
    again = tmp_path / "again.yaml"
    again.write_text(dump(recipe))
    assert load_recipe(again) == recipe


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.epoch=3"], "r.yaml: train.epoch: unknown key, did you mean 'epochs'?"),
        (["train.zzz=3"], "r.yaml: train.zzz: unknown key; known: epochs"),
        (["colour=red"], "r.yaml: colour: unknown key; known: name"),
        (["train.lr=fast"], "r.yaml: train.lr: Input should be a valid number"),
        (["train.lr=-1"], "r.yaml: train.lr: Input should be greater than 0"),
        (["train.optimizer=lion"], "r.yaml: train.optimizer: Input should be 'adam'"),
        (["train.devices=3"], "r.yaml: train: batch_size (4) must divide by devices (3)"),
        (["train.lr"], "--set 'train.lr': write key.path=value"),
        (["name.x=1"], "--set 'name.x=1': 'name' is a value, not a section"),
        (["train.losss=ce"], "r.yaml: train.losss: unknown key"),
        (["train.lr=[1"], "--set 'train.lr=[1': '[1' is not valid YAML"),
        (["train.a=1", "train.b=2"], "(and 1 more)"),
    ],
)
def test_recipe_errors_are_one_line_with_the_key(tmp_path, settings, message):
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.replace("1e-3", "0.001"))
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_recipe(path, settings)
    assert "\n" not in str(error.value)


def test_unreadable_recipes(tmp_path):
    with pytest.raises(ValueError, match="none.yaml': neither a file nor one of the package's"):
        load_recipe(tmp_path / "none.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: x\nmodel: [")
    with pytest.raises(ValueError, match="bad.yaml: not valid YAML in line"):
        load_recipe(bad)
    bad.write_text("- a\n- b")
    with pytest.raises(ValueError, match="bad.yaml: a recipe is a mapping of keys, this is a list"):
        load_recipe(bad)
    with pytest.raises(ValueError, match="recipe: model: Field required"):
        parse({"name": "x", "data": {"name": "d", "validation": 1}, "train": {"epochs": 1, "batch_size": 1, "lr": 1}})


def test_override_does_not_touch_its_input():
    raw = {"a": {"b": 1}}
    assert override(raw, ["a.b=2", "c.d=x"]) == {"a": {"b": 2}, "c": {"d": "x"}}
    assert raw == {"a": {"b": 1}}


def test_recipes_of_the_first_version_are_read_as_todays():
    old = {
        "name": "old",
        "model": {
            "name": "vgg_small",
            "kwargs": {"T": 2, "preset": "qp"},
            "transforms": [{"name": "memory_free", "config": {"mode": "masked", "T": 2}}],
        },
        "data": {"name": "folder", "root": "pictures", "size": 32, "validation": 4},
        "train": {"epochs": 2, "batch_size": 4, "lr": 1e-3, "loss": "tet", "tet_lambda": 0.1},
        "prune": {"ratios": {"conv1": 0.2}, "finetune": {"epochs": 1}},
        "stages": ["profile", "prune"],
    }
    new = {
        "name": "old",
        "model": {
            "name": "vgg_small",
            "config": {"T": 2, "neuron": "qp"},
            "transforms": [
                {"name": "memory_free", "config": {"mixing": {"name": "masked_mixing", "config": {"T": 2}}}}
            ],
        },
        "data": {"name": "folder", "root": "pictures", "config": {"size": 32}, "validation": 4},
        "task": {"config": {"loss": "tet", "tet_lambda": 0.1}},
        "train": {"epochs": 2, "batch_size": 4, "lr": 1e-3},
        "stages": [
            "profile",
            {"name": "prune", "config": {"ratios": {"layers.1": 0.2}, "finetune": {"epochs": 1}}},
        ],
    }
    before = copy.deepcopy(old)
    assert parse(old) == parse(new)
    assert old == before
    assert parse(yaml.safe_load(dump(parse(old)))) == parse(new)
    with pytest.raises(ValueError, match="kwargs"):
        parse({**old, "model": {"name": "vgg_small", "kwargs": 3}})
    assert load_recipe(ROOT / "checkpoints" / "digits.recipe.yaml").model.config["neuron"] == "tet"


def test_warm_up_follows_the_epochs():
    recipe = parse(yaml.safe_load(RECIPE.replace("1e-3}", "1.0e-3, warmup_epochs: 1}")))
    assert recipe.train.warmup == 1
    raw = recipe.model_dump()
    for epochs, given, used in ((1, 1, 0.5), (2, 5, 1), (10, 5, 5), (3, 0, 0)):
        assert parse(override(raw, [f"train.epochs={epochs}", f"train.warmup_epochs={given}"])).train.warmup == used
