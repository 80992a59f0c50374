"""The state of a federation on disk: one safetensors file, written aside and renamed, so that a kill leaves the old
or the new."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FORMAT = "saccade-split-1"
KEY = "saccade"


def write_state(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Raises OSError (disk full, ...) with the previous file untouched."""
    aside = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    try:
        save_file(kept, aside, {KEY: json.dumps({"format": FORMAT, **record})})
        with open(aside, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except (SafetensorError, OSError) as error:
        aside.unlink(missing_ok=True)
        raise OSError(f"{path}: could not be written ({error}); the previous state, if any, is untouched") from None


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """``(tensors, record)``. Raises ValueError for a file that is missing, damaged, not ours or not finite."""
    if not path.is_file():
        raise ValueError(f"{path}: no such state of a federation")
    try:
        with safe_open(path, "pt") as file:
            record = json.loads((file.metadata() or {}).get(KEY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable ({type(error).__name__}: {str(error)[:120]})") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ValueError(f"{path}: a safetensors file, but no state of a federation ({FORMAT})")
    for name, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{path}: {name} holds values that are not finite, so it is not loaded")
    return tensors, record
