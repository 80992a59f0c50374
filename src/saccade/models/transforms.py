"""Changes of a model's structure that its file can replay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from saccade.layers import (
    QuantizeConfig,
    SpikingShortcut,
    attach_forms,
    attach_memory_free,
    attach_quantized_membranes,
)
from saccade.models.base import SpikingModel
from saccade.models.fuse import fold_norms
from saccade.neurons import MembraneConfig, MemoryFreeConfig
from saccade.neurons.surrogate import surrogate_from

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


def memory_free(model: SpikingModel, config: dict[str, Any]) -> None:
    """Make the neurons memory-free by a ``MemoryFreeConfig``. Raises ValueError for keys or values that it does not take."""
    given = dict(config)
    if given.get("surrogate") is not None:
        given["surrogate"] = surrogate_from(given["surrogate"])
    try:
        settings = MemoryFreeConfig(**given)
    except TypeError as error:
        raise ValueError(f"memory_free: {error}") from None
    attach_memory_free(model, settings)


def quantize_membranes(model: SpikingModel, config: dict[str, Any]) -> None:
    """Quantise the potentials by a ``MembraneConfig``. Raises ValueError for keys or values that it does not take."""
    try:
        settings = MembraneConfig(**config)
    except TypeError as error:
        raise ValueError(f"quantize_membranes: {error}") from None
    attach_quantized_membranes(model, settings)


TRANSFORMS: dict[str, Transform] = {
    "remove_shortcuts": remove_shortcuts,
    "fold_norms": fold_norms,
    "quantize": quantize,
    "memory_free": memory_free,
    "quantize_membranes": quantize_membranes,
}


def apply_transform(model: SpikingModel, name: str, config: dict[str, Any]) -> None:
    """Apply a transform by name and note it in ``model.transforms``. Raises ValueError for an unknown name."""
    if name not in TRANSFORMS:
        raise ValueError(f"unknown model transform {name!r}; known: {', '.join(sorted(TRANSFORMS))}")
    TRANSFORMS[name](model, config)
    model.transforms.append({"name": name, "config": config})
