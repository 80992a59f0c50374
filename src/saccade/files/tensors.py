"""safetensors files with our metadata: written aside and renamed, read with one line for whatever is wrong."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

# What reading a damaged file can raise, from json to torch
BROKEN = (
    ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError, ArithmeticError, MemoryError, RecursionError,
)  # fmt: skip
KEY = "saccade"  # of the safetensors metadata


def in_one_line(error: BaseException, most: int = 200) -> str:
    """What an error says, without line breaks and in at most so many characters."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        error = ValueError(f"{'.'.join(map(str, first['loc'])) or error.title}: {first['msg']}")
    words = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, ValueError):
        words = f"{type(error).__name__}: {words}"
    return words if len(words) <= most else words[: most - 1] + "…"


def write_tensors(tensors: dict[str, Tensor], path: str | os.PathLike[str], metadata: dict[str, Any]) -> None:
    """A safetensors file, written aside and renamed: OSError (disk full, ...) leaves the old one as it was."""
    aside = Path(path).with_name(Path(path).name + ".part")
    try:
        save_file(tensors, aside, {KEY: json.dumps(metadata, separators=(",", ":"))})
        mask = os.umask(0)  # safetensors makes files for their owner alone; others may read what the umask lets them
        os.umask(mask)
        os.chmod(aside, 0o666 & ~mask)
        os.replace(aside, path)
    except (SafetensorError, OSError) as error:
        aside.unlink(missing_ok=True)
        raise OSError(f"{path}: could not be written ({error}); the previous file, if any, is untouched") from None


@contextlib.contextmanager
def openable(path: str | os.PathLike[str]) -> Iterator[str]:
    """A path that safetensors opens: its own, or, where that is no UTF-8, the one of a descriptor."""
    name = os.fspath(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        with open(path, "rb") as file:
            yield f"/dev/fd/{file.fileno()}"
    else:
        yield name


def read_metadata(path: str | os.PathLike[str], formats: tuple[str, ...], kind: str) -> dict[str, Any]:
    """Our metadata of a safetensors file of one of the formats. Raises ValueError, calling it a ``kind``, for anything else."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such {kind}")
    try:
        with openable(path) as name, safe_open(name, "pt") as file:
            metadata = json.loads((file.metadata() or {}).get(KEY, "null"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a readable {kind} ({type(error).__name__}: {str(error)[:120]})") from None
    if not isinstance(metadata, dict) or metadata.get("format") not in formats:
        raise ValueError(f"{path}: a safetensors file, but not a {kind} written by saccade ({formats[0]})")
    return metadata


def read_tensors(path: str | os.PathLike[str], kind: str) -> dict[str, Tensor]:
    """All tensors of a file. Raises ValueError if it cannot be read."""
    try:
        with openable(path) as name:
            return load_file(name)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a readable {kind} ({error})") from None


def fit_weights(model: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """``load_state_dict`` whose error is one line: ValueError naming ``source`` and the first tensor that misfits or is not
    finite (a potential that is NaN never fires, so the answers of such a network would look sound)."""
    own = model.state_dict()
    for key in sorted(own.keys() ^ tensors.keys()):
        side = "lacks the" if key in own else "has an unexpected"
        raise ValueError(f"{source}: belongs to another model: it {side} tensor {key!r}")
    for key, value in own.items():
        if value.shape != tensors[key].shape:
            shapes = f"{list(tensors[key].shape)} where the model has {list(value.shape)}"
            raise ValueError(f"{source}: belongs to another model: {key!r} is {shapes}")
        if value.is_floating_point() != tensors[key].is_floating_point():
            raise ValueError(f"{source}: {key!r} is of the type {tensors[key].dtype} where the model has {value.dtype}")
    try:
        refuse_not_finite(tensors, "it is not loaded")
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    model.load_state_dict(tensors)


def refuse_not_finite(tensors: dict[str, Tensor], what: str) -> None:
    """Raises ValueError naming the first tensor with a NaN or an infinity: a file of such weights would look sound."""
    for key, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{key} holds values that are not finite, so {what}")
