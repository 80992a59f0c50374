"""What a user may call a model: a file, a run directory, a registered name, anybody's factory."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn

from saccade.files.model_file import load_model, model_info
from saccade.files.packed import load_packed, packed_info
from saccade.files.tensors import openable
from saccade.models import MODELS, create_model
from saccade.plugins import working_directory


@dataclass(frozen=True)
class Opened:
    """A model, in eval mode if it is ours, and what its name says of it.

    name: as it was given. file: the model or packed file that it came from, None for a fresh one. input_shape: ``(C, H, W)`` of
    what it was trained on or published for, None if nothing says so; input_said: whether its file says it. classes: what a
    classifier tells apart, where its file says so.
    """

    name: str
    model: nn.Module
    file: Path | None = None
    packed: bool = False
    input_shape: tuple[int, ...] | None = None
    input_said: bool = False
    classes: tuple[str, ...] = ()

    def beside(self, word: str) -> Path:
        """Where a changed copy goes: WORD.safetensors beside the file, NAME-WORD.safetensors here for a fresh model."""
        if self.file is not None:
            return self.file.with_name(f"{word}.safetensors")
        return Path(f"{self.name.rpartition(':')[2]}-{word}.safetensors")


def open_model(target: str | Path, T: int | None = None) -> Opened:
    """The model that ``target`` names: a model or packed file, a run directory, a registered name, or
    ``package.module:factory``, imported with the working directory on the path and called without arguments.

    T: steps of a registered model; it is part of a file, and the factory's business.

    Raises ValueError, in one line with the nearest names, for whatever cannot be found, read, imported or built.
    """
    name = str(target)
    if name in MODELS and not (Path(name).is_file() or (Path(name) / "model.safetensors").is_file()):
        model = create_model(name, **({} if T is None else {"T": T})).eval()
        return Opened(name, model, input_shape=(model.in_channels, *model.input_size))
    if Path(name).exists():
        file = model_file(name)
        if T is not None:
            raise ValueError(f"{name}: T is part of a model file; it cannot be chosen")
        packed = is_packed(file)
        info = packed_info(file) if packed else model_info(file)
        loaded = load_packed(file) if packed else load_model(file)
        said = info.get("input")
        shape = tuple(said or (loaded.in_channels, *loaded.input_size))
        return Opened(name, loaded, file, packed, shape, bool(said), tuple(info.get("classes") or ()))
    if ":" not in name:
        raise ValueError(_nothing_called(name))
    with working_directory():
        factory = load_callable(name)
        try:
            built = factory()
        except Exception as error:
            message = " ".join(str(error).split())
            raise ValueError(f"{name}: the factory raises {type(error).__name__}: {message}") from error
    if not isinstance(built, nn.Module):
        raise ValueError(f"{name}: the factory returns {type(built).__name__}, not a torch.nn.Module")
    return Opened(name, built)


def model_file(path: str | Path) -> Path:
    """The model file that a path names: itself, or the one of a run directory. Raises ValueError if there is neither."""
    path = Path(path)
    file = path / "model.safetensors" if path.is_dir() else path
    if file.is_file():
        return file
    if path.is_dir():
        raise ValueError(f"{path}: neither a model file nor a run directory with a model.safetensors")
    if str(path) in MODELS:
        raise ValueError(f"{path}: a registered model has no weights yet; train it, and give the run's directory")
    raise ValueError(_nothing_called(str(path)))


def _nothing_called(name: str) -> str:
    near = difflib.get_close_matches(name, MODELS, 3)
    hint = f"did you mean {' or '.join(near)}?" if near else "`saccade models` lists those"
    return f"{name}: neither a model file nor a run directory, a registered model or package.module:factory; {hint}"


def is_packed(file: Path) -> bool:
    """Whether a file is one that save_packed wrote. Raises ValueError if there is no such file."""
    if not file.is_file():
        raise ValueError(f"{file}: no such model file")
    try:
        with openable(file) as name, safe_open(name, "pt") as opened:
            return '"saccade-packed-' in (opened.metadata() or {}).get("saccade", "")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file}: not a readable model file ({error})") from None


def load_callable(name: str) -> Callable[..., Any]:
    """What ``package.module:attribute`` names. Raises ValueError in one line."""
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ValueError(f"expected package.module:name, got {name!r}")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        message = " ".join(str(error).split())
        raise ValueError(f"{name}: cannot import {module_name} ({type(error).__name__}: {message})") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{name}: {module_name} has no {attribute!r}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{name}: not callable")
    return found
