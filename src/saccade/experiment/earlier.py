"""Recipes of earlier versions, read as today's: run directories and recipe files outlive the version that wrote them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from saccade.files.legacy import group_path, upgrade_config, upgrade_transform

LOSS = ("loss", "label_smoothing", "tet_lambda", "tet_target")


def upgraded(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of saccade 0.1 where they stand today; all others, and values that do not fit, as they are.

    ``model.kwargs`` is ``model.config``, its ``preset`` the ``neuron``; ``data.size`` belongs to the folder's config; the loss
    is the task's; ``prune`` is the config of the stage of that name.
    """
    recipe = dict(raw)
    for name, upgrade in (("model", _model), ("data", _data)):
        if isinstance(recipe.get(name), Mapping):
            recipe[name] = upgrade(dict(recipe[name]))
    train = recipe.get("train")
    if isinstance(train, Mapping) and any(key in train for key in LOSS) and "task" not in recipe:
        recipe["train"] = {key: value for key, value in train.items() if key not in LOSS}
        recipe["task"] = {"name": "classification", "config": {key: train[key] for key in LOSS if key in train}}
    stages = recipe.get("stages")
    if "prune" in recipe and recipe["prune"] is None:
        del recipe["prune"]
    elif "prune" in recipe and isinstance(stages, list | tuple) and "prune" in stages:
        settings = _prune(recipe.pop("prune"), recipe.get("model"))
        recipe["stages"] = [{"name": one, "config": settings} if one == "prune" else one for one in stages]
    return recipe


def _model(model: dict[str, Any]) -> dict[str, Any]:
    config = model.get("config", {})
    if isinstance(model.get("kwargs"), Mapping) and isinstance(config, Mapping):
        model["config"] = {**config, **upgrade_config(dict(model.pop("kwargs")))}
    if isinstance(model.get("transforms"), list | tuple):
        model["transforms"] = [_transform(one) for one in model["transforms"]]
    return model


def _transform(record: Any) -> Any:
    """The membranes' mode is a mixing now; what else a recipe can name has kept its settings."""
    if (
        isinstance(record, Mapping)
        and record.get("name") == "memory_free"
        and isinstance(record.get("config"), Mapping)
    ):
        return upgrade_transform("memory_free", dict(record["config"]), "")
    return record


def _prune(settings: Any, model: Any) -> Any:
    """Groups of channels are called by the path of the first layer that makes them."""
    if not isinstance(settings, Mapping) or not isinstance(settings.get("ratios"), Mapping):
        return settings
    name = str(model.get("name")) if isinstance(model, Mapping) else ""
    ratios = {}
    for group, share in settings["ratios"].items():
        with contextlib.suppress(ValueError, AttributeError):  # no name of then
            group = group_path(group, name)
        ratios[group] = share
    return {**settings, "ratios": ratios}


def _data(data: dict[str, Any]) -> dict[str, Any]:
    if "size" in data:
        size, config = data.pop("size"), data.get("config", {})
        if size is not None and isinstance(config, Mapping):
            data["config"] = {**config, "size": size}
    return data
