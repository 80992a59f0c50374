"""Changes of a model's structure that its file can replay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from saccade.layers import (
    QuantizeConfig,
    SpikingShortcut,
    SubBitConfig,
    attach_memory_free,
    attach_quantised,
    attach_quantized_membranes,
    attach_subbit,
)
from saccade.models.base import SpikingModel
from saccade.models.channels import channel_groups, freeze_scales, narrow, thaw_scales
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
    attach_quantised(model, settings(QuantizeConfig, "quantize", config))


def subbit(model: SpikingModel, config: dict[str, Any]) -> None:
    """Give the layers the codebooks of a ``SubBitConfig``. Raises ValueError for keys or values that it does not take."""
    attach_subbit(model, settings(SubBitConfig, "subbit", config))


def settings(kind: Any, name: str, config: dict[str, Any]) -> Any:
    """A config dataclass from a recipe's mapping; lists become tuples. Raises ValueError for an unknown key."""
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in config.items()})
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from None


def prune(model: SpikingModel, config: dict[str, Any]) -> None:
    """Keep the first ``config["kept"][group]`` channels of each group; the weights of those that were kept come from the file.

    Scales of weight forms are frozen, as ``compress.prune_`` does. Raises ValueError for counts that a group does not have.
    """
    groups = channel_groups(model)
    for name, count in config["kept"].items():
        if name not in groups or not isinstance(count, int):
            raise ValueError(f"prune: {name!r}: {count!r} is no number of channels of {', '.join(groups)}")
    freeze_scales(model)
    narrow(model, {name: range(count) for name, count in config["kept"].items()})


def thaw(model: SpikingModel, config: dict[str, Any]) -> None:
    """Let frozen scales of weight forms follow their weights again."""
    thaw_scales(model)


def memory_free(model: SpikingModel, config: dict[str, Any]) -> None:
    """Make the neurons memory-free by a ``MemoryFreeConfig``. Raises ValueError for keys or values that it does not take."""
    named = config.get("surrogate")
    given = {**config, "surrogate": None if named is None else surrogate_from(named)}
    attach_memory_free(model, settings(MemoryFreeConfig, "memory_free", given))


def quantize_membranes(model: SpikingModel, config: dict[str, Any]) -> None:
    """Quantise the potentials by a ``MembraneConfig``. Raises ValueError for keys or values that it does not take."""
    attach_quantized_membranes(model, settings(MembraneConfig, "quantize_membranes", config))


TRANSFORMS: dict[str, Transform] = {
    "remove_shortcuts": remove_shortcuts,
    "fold_norms": fold_norms,
    "quantize": quantize,
    "memory_free": memory_free,
    "quantize_membranes": quantize_membranes,
    "subbit": subbit,
    "prune": prune,
    "thaw_scales": thaw,
}


def apply_transform(model: SpikingModel, name: str, config: dict[str, Any]) -> None:
    """Apply a transform by name and note it in ``model.transforms``. Raises ValueError for an unknown name."""
    if name not in TRANSFORMS:
        raise ValueError(f"unknown model transform {name!r}; known: {', '.join(sorted(TRANSFORMS))}")
    try:
        TRANSFORMS[name](model, config)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{name}: its settings do not fit ({type(error).__name__}: {error})") from None
    model.transforms.append({"name": name, "config": config})
