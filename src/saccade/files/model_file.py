"""Model files: safetensors whose metadata says how to build the model again, and what it is then.

Metadata: ``{format, model, config, classes, input, frames, transforms: [{name, config}], plugins, fingerprint}``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from saccade import plugins
from saccade.config import Config
from saccade.files.fingerprint import fingerprint, first_difference
from saccade.files.legacy import upgrade_metadata
from saccade.files.schema import ModelRecord, checked
from saccade.files.tensors import (
    BROKEN,
    fit_weights,
    in_one_line,
    read_metadata,
    read_tensors,
    refuse_not_finite,
    write_tensors,
)
from saccade.models import SpikingModel, create_bounded
from saccade.transforms import Transform, apply

FORMAT, FORMER = "saccade-model-2", "saccade-model-1"


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside what ``torch.compile``, DistributedDataParallel or Fabric made of it."""
    while not isinstance(model, SpikingModel):
        inside = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
        if not isinstance(inside, nn.Module):
            break
        model = inside
    return model


def save_model(
    model: nn.Module,
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    input_shape: Sequence[int] | None = None,
) -> None:
    """Write a model made by ``create_model``, with the transforms applied since (aside, then renamed).

    ``model`` may be wrapped (``torch.compile``, DDP): the model inside is written. ``input_shape``: the ``(C, H, W)`` it was
    trained on, for ``saccade predict``.

    Raises ValueError for a model without a registered name, one that was changed otherwise than by transforms, so that the file
    would load as another function, or weights that are not finite; OSError with nothing overwritten.
    """
    model = unwrapped(model)
    metadata = {"format": FORMAT, **describe(model, classes, input_shape)}
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    refuse_not_finite(tensors, "the model is not saved")
    write_tensors(tensors, path, metadata)


def describe(
    model: nn.Module, classes: Sequence[str] | None, input_shape: Sequence[int] | None, values_only: bool = False
) -> dict[str, Any]:
    """The metadata of a file of the model. values_only: leave out the transforms that a file of plain values need not replay.

    Raises ValueError for a model that the metadata would not build again.
    """
    named(model)
    assert isinstance(model, SpikingModel)
    replayed = [one for one in model.transforms if one.changes_structure or not values_only]
    metadata = {
        "model": model.name,
        "config": model.config.settings(),
        "classes": list(classes) if classes else None,
        "input": list(input_shape) if input_shape else None,
        "frames": model.frames,
        "transforms": [one.record() for one in replayed],
        "plugins": _plugins(model),
        "fingerprint": fingerprint(model),
    }
    again = build(metadata, "the model") if not values_only else None
    if again is not None and fingerprint(again) != metadata["fingerprint"]:
        raise ValueError(
            f"a file would load as another function: {first_difference(model, again)} (what its name and transforms make); "
            "change models by transforms, or register the changed one"
        )
    return metadata


def named(model: nn.Module) -> None:
    """Raises ValueError for a model without a registered name: no file could say how to build it again."""
    if not isinstance(model, SpikingModel) or model.name is None:
        raise ValueError(
            f"only a model from create_model can be saved: its file must say how to build it again; register "
            f"{type(model).__name__} under a name (saccade.models.register, in a plugin: docs/plugins.md)"
        )


def _plugins(model: SpikingModel) -> list[str]:
    """The modules of others that it takes to build the model again."""
    parts: list[Any] = [model, *model.transforms, *model.modules()]
    parts += [value for value in vars(model.config).values() if isinstance(value, Config)]
    modules = {plugins.plugin_of(part) for part in parts}
    return sorted(name for name in modules if name and not name.startswith("torch."))


def build(metadata: dict[str, Any], source: str) -> SpikingModel:
    """The model that metadata describes, transforms replayed, with weights of its own; random state is left as it was.

    Raises ValueError in one line, beginning with ``source``, for whatever does not fit.
    """
    plugins.require(metadata.get("plugins") or [], source)
    with torch.random.fork_rng():
        try:
            model = create_bounded(metadata["model"], metadata["config"])
        except BROKEN as error:
            raise ValueError(f"{source}: cannot build its model: {in_one_line(error)}") from None
        try:
            for record in metadata["transforms"]:
                apply(model, Transform.parse(record))
        except BROKEN as error:
            raise ValueError(f"{source}: cannot replay what was done to its model: {in_one_line(error)}") from None
    model.frames = metadata.get("frames")
    return model


def model_info(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The metadata of a model file. Raises ValueError for anything else."""
    return checked(
        upgrade_metadata(read_metadata(path, (FORMAT, FORMER), "model file"), str(path)), ModelRecord, str(path)
    )


def load_model(path: str | os.PathLike[str]) -> SpikingModel:
    """Build the model a file describes, replay its transforms and load its weights; in eval mode.

    Raises ValueError in one line if the file is unreadable, of an unknown model or transform, does not fit, or would be another
    function than the one that was saved.
    """
    metadata = model_info(path)
    model = build(metadata, str(path))
    stored = metadata.get("fingerprint")
    if stored is not None and fingerprint(model) != stored:
        raise ValueError(
            f"{path}: was saved from a model of another structure (fingerprint {stored}, now {fingerprint(model)}): "
            "its code has changed since"
        )
    load_weights(model, path)
    return model.eval()


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a file's tensors into a model of the same structure. Raises ValueError naming the first misfit."""
    fit_weights(model, read_tensors(path, "weights file"), str(path))
