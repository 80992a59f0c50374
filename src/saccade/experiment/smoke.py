"""A first try of a recipe, in a minute or so: does it run from end to end?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saccade.experiment.building import load_splits
from saccade.experiment.recipe import Recipe, parse, with_root

TRAINING_IMAGES, OTHER_IMAGES = 512, 256


def smoke(recipe: Recipe, data: str | Path | None = None) -> Recipe:
    """The recipe with one epoch (stages too) on a few hundred images, named NAME-smoke; its scores mean nothing.

    data: the data folder, in the place of the recipe's. Raises ValueError, FileNotFoundError as reading its images does.
    """
    splits = load_splits(recipe.data, data)
    raw = with_root(recipe, data).model_dump(mode="json")
    raw["name"] += "-smoke"
    wanted = max(TRAINING_IMAGES, 2 * recipe.train.batch_size)
    raw["data"] |= {
        "train_size": min(wanted, len(splits.train)),
        "validation": min(OTHER_IMAGES, len(splits.validation)),
        "test_size": min(OTHER_IMAGES, len(splits.test)),
    }
    raw["train"] |= {"epochs": 1, "evaluate_every": 1}
    raw["stages"] = _shortest(raw["stages"])
    return parse(raw, "smoke")


def _shortest(value: Any) -> Any:
    """Settings in which whatever counts epochs or batches is 1."""
    if isinstance(value, dict):
        return {key: 1 if key in ("epochs", "batches") and one else _shortest(one) for key, one in value.items()}
    return [_shortest(one) for one in value] if isinstance(value, list) else value
