"""Changes of a model's structure that its file can replay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from saccade.layers import QuantizeConfig, SpikingShortcut, attach_forms
from saccade.models.base import SpikingModel
from saccade.models.fuse import fold_norms

Transform = Callable[[SpikingModel, dict[str, Any]], None]

REMOVABLE = ("or", "add")  # with a silent shortcut these give the backbone; "and" and "iand" give zero


def remove_shortcuts(model: SpikingModel, config: dict[str, Any]) -> None:
    """Take out the spiking shortcuts at the paths ``config["remove"]``, so that their blocks give the backbone alone.

    Raises ValueError for a path that is no spiking shortcut, or whose connection needs it.
    """
    present = [path for path, module in model.named_modules() if isinstance(module, SpikingShortcut)]
    for path in config["remove"]:
        if path not in present:
            raise ValueError(f"{path!r} is no spiking shortcut; the model has {', '.join(present) or 'none'}")
        block: Any = model.get_submodule(path.rpartition(".")[0])
        if block.connection not in REMOVABLE:
            raise ValueError(
                f"{path!r} cannot be removed: {block.connection!r} of a silent shortcut is not the backbone"
            )
        block.shortcut = None


def quantize(model: SpikingModel, config: dict[str, Any]) -> None:
    """Give the layers the weight forms of a ``QuantizeConfig``. Raises ValueError for keys or values that it does not take."""
    skip = config.get("skip")
    try:
        settings = QuantizeConfig(**config | {"skip": None if skip is None else tuple(skip)})
    except TypeError as error:
        raise ValueError(f"quantize: {error}") from None
    attach_forms(model, settings)


TRANSFORMS: dict[str, Transform] = {
    "remove_shortcuts": remove_shortcuts,
    "fold_norms": fold_norms,
    "quantize": quantize,
}


def apply_transform(model: SpikingModel, name: str, config: dict[str, Any]) -> None:
    """Apply a transform by name and note it in ``model.transforms``. Raises ValueError for an unknown name."""
    if name not in TRANSFORMS:
        raise ValueError(f"unknown model transform {name!r}; known: {', '.join(sorted(TRANSFORMS))}")
    TRANSFORMS[name](model, config)
    model.transforms.append({"name": name, "config": config})
