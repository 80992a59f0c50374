"""Model files: safetensors whose metadata says how to build the model again."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from saccade.models.base import SpikingModel
from saccade.models.registry import create_model
from saccade.models.transforms import apply_transform

FORMAT = "saccade-model-1"


def save_model(
    model: SpikingModel,
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    input_shape: Sequence[int] | None = None,
) -> None:
    """Write a model made by ``create_model``, with the transforms applied since (aside, then renamed).

    ``input_shape``: the ``(C, H, W)`` it was trained on, for ``saccade predict``.

    Raises ValueError for a model without a registered name, OSError (disk full, no permission) with nothing overwritten.
    """
    created = getattr(model, "created_as", None)
    if created is None:
        raise ValueError("only models from create_model can be saved to a model file")
    name, kwargs = created
    meta = {
        "format": FORMAT,
        "model": name,
        "kwargs": kwargs,
        "classes": list(classes) if classes else None,
        "input": list(input_shape) if input_shape else None,
        "transforms": model.transforms,
    }
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    write_tensors(tensors, path, {"saccade": json.dumps(meta)})


def write_tensors(tensors: dict[str, Any], path: str | os.PathLike[str], metadata: dict[str, str]) -> None:
    """safetensors file, written aside and renamed, so that a failure leaves the old file as it was."""
    aside = Path(path).with_name(Path(path).name + ".part")
    try:
        save_file(tensors, aside, metadata)
        mask = os.umask(0)  # safetensors makes files for their owner alone; others may read what the umask lets them
        os.umask(mask)
        os.chmod(aside, 0o666 & ~mask)
        os.replace(aside, path)
    except (SafetensorError, OSError) as error:
        aside.unlink(missing_ok=True)
        raise OSError(f"{path}: could not be written ({error}); the previous file, if any, is untouched") from None


def model_info(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The metadata of a model file: format, model, kwargs, classes, input, transforms. Raises ValueError for anything else."""
    return read_metadata(path, FORMAT, "model file", "a model written by saccade")


def read_metadata(path: str | os.PathLike[str], form: str, kind: str, what: str) -> dict[str, Any]:
    """Our metadata of a safetensors file. Raises ValueError, in words for ``kind`` and ``what``, for another format or file."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such {kind}")
    try:
        with safe_open(path, "pt") as file:
            meta = json.loads((file.metadata() or {}).get("saccade", "null"))
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not a readable {kind} ({error})") from None
    if not isinstance(meta, dict) or meta.get("format") != form:
        raise ValueError(f"{path}: a safetensors file, but not {what} ({form})")
    return meta


def load_model(path: str | os.PathLike[str]) -> SpikingModel:
    """Build the model a file describes, replay its transforms and load its weights; in eval mode.

    Raises ValueError in one line if the file is unreadable, of an unknown model or transform, or does not fit.
    """
    meta = model_info(path)
    try:
        model = create_model(meta["model"], **tuples(meta["kwargs"]))
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: cannot build its model: {error}") from None
    for transform in meta["transforms"]:
        apply_transform(model, transform["name"], transform["config"])
    load_weights(model, path)
    return model.eval()


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a file's tensors into a model of the same structure. Raises ValueError naming the first misfit."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a readable weights file ({error})") from None
    fit_weights(model, tensors, str(path))


def fit_weights(model: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """``load_state_dict`` whose error is one line: ValueError naming ``source`` and the first tensor that misfits."""
    own = model.state_dict()
    for key in sorted(own.keys() ^ tensors.keys()):
        side = "lacks the" if key in own else "has an unexpected"
        raise ValueError(f"{source}: belongs to another model: it {side} tensor {key!r}")
    for key, value in own.items():
        if value.shape != tensors[key].shape:
            shapes = f"{list(tensors[key].shape)} where the model has {list(value.shape)}"
            raise ValueError(f"{source}: belongs to another model: {key!r} is {shapes}")
    model.load_state_dict(tensors)


def tuples(value: Any) -> Any:
    """JSON has lists only; constructors take tuples."""
    if isinstance(value, dict):
        return {key: tuples(item) for key, item in value.items()}
    return tuple(tuples(item) for item in value) if isinstance(value, list) else value
