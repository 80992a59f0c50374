"""Model files of earlier versions, read as today's."""

from __future__ import annotations

import re
from typing import Any

MIXING_FIELDS = {"leak": ("per",), "masked": ("T",), "sliding": ("order",)}


def upgrade_metadata(metadata: dict[str, Any], source: str) -> dict[str, Any]:
    """Metadata of format 1 (saccade 0.1) as of format 2; others as they are. Raises ValueError for what is damaged."""
    if not str(metadata.get("format", "")).endswith("-1"):
        return metadata
    try:
        config = upgrade_config(metadata["kwargs"])
        transforms = [
            upgrade_transform(one["name"], dict(one["config"]), metadata["model"]) for one in metadata["transforms"]
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{source}: its metadata are damaged ({type(error).__name__}: {error})") from None
    kept = {key: value for key, value in metadata.items() if key not in ("kwargs", "transforms")}
    return {**kept, "config": config, "transforms": transforms}


def upgrade_config(kwargs: dict[str, Any]) -> dict[str, Any]:
    """A model's arguments: the neurons' preset is called neuron now."""
    return {"neuron" if key == "preset" else key: value for key, value in kwargs.items()}


def upgrade_transform(name: str, config: dict[str, Any], model: str) -> dict[str, Any]:
    """A transform's record."""
    if name == "memory_free" and "mixing" not in config:
        mode = config.pop("mode", "leak")
        surrogate = config.pop("surrogate", None)
        fields = ("decay", "learn", "v_th", *MIXING_FIELDS[mode])
        mixing = {"name": f"{mode}_mixing", "config": {key: config[key] for key in fields if key in config}}
        config = {"mixing": mixing, "surrogate": None if surrogate is None else upgrade_surrogate(surrogate)}
    if name == "prune":
        config = {"kept": {group_path(group, model): count for group, count in config["kept"].items()}}
    return {"name": name, "config": config}


def upgrade_surrogate(record: dict[str, Any]) -> dict[str, Any]:
    """``{name, alpha}`` as ``{name, config: {alpha}}``."""
    return {"name": record["name"], "config": {key: value for key, value in record.items() if key != "name"}}


def group_path(group: str, model: str) -> str:
    """The path of the first layer that makes a group's channels, by which groups are called now."""
    if group == "stem":
        return "stem.0"
    kind, number = re.fullmatch(r"([a-z]+)(\d+)", group).groups()  # type: ignore[union-attr]
    n = int(number)
    if kind == "layer":  # rows_mlp
        return f"layers.{3 * (n - 1)}"
    if kind == "conv":  # VGG: a convolution, its norm and neurons, with a pooling before some
        pools = {"vgg16": (2, 4, 7, 10), "vggsnn": (2, 4, 6)}.get(model, (1, 3, 5))
        return f"layers.{3 * (n - 1) + sum(pool <= n for pool in pools)}"
    if kind == "middle":
        return f"blocks.{n - 1}.conv1" if model == "resnet20_wide" else f"blocks.{n - 1}.residual.1"
    if kind == "stage" and model == "resnet20_wide":
        return f"blocks.{3 * (n - 1)}.conv2"
    raise ValueError(f"pruned groups {group!r} of a {model} of saccade 0.1 are not known; prune the model again")
