"""Trainer state on disk: one safetensors file, written aside and renamed, so that a kill never leaves half of one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, with_config
from torch import Tensor
from torch.optim import Optimizer

from saccade.files.tensors import BROKEN, in_one_line, read_metadata, read_tensors, write_tensors

FORMAT = "saccade-checkpoint-2"


Number = int | float | None
Count = Annotated[int, Field(ge=0)]


def _rows(history: list[dict[str, Number]]) -> list[dict[str, Number]]:
    for row in history:
        if row.keys() != history[0].keys() or "epoch" not in row:
            raise ValueError("rows of the history that differ in their columns")
    return history


@with_config(ConfigDict(extra="forbid"))
@dataclass
class Progress:
    """Where a run stands: ``epoch`` epochs are complete, and ``step`` steps of the next one. history: a row an epoch."""

    epoch: Count = 0
    step: Count = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    best_score: float | None = None
    best_epoch: int = -1
    history: Annotated[list[dict[str, Number]], AfterValidator(_rows)] = field(default_factory=list)
    loss_scale: dict[str, Any] = field(default_factory=dict)


def save(
    path: Path,
    model: dict[str, Tensor],
    ema: dict[str, Tensor] | None,
    optimizer: Optimizer | None,
    progress: Progress,
    metrics: dict[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint; ``metrics``: the sums of the epoch under way. Raises OSError (disk full, ...) with the previous
    checkpoint untouched.
    """
    tensors = {f"model/{key}": value for key, value in model.items()}
    tensors |= {f"ema/{key}": value for key, value in (ema or {}).items()}
    tensors |= {f"metrics/{key}": value for key, value in (metrics or {}).items()}
    groups: list[Any] = []
    plain: dict[str, Any] = {}
    if optimizer is not None:
        state = optimizer.state_dict()
        groups = state["param_groups"]
        for index, entries in state["state"].items():
            for key, value in entries.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{index}/{key}"] = value
                else:
                    plain[f"{index}/{key}"] = value
    meta = {"format": FORMAT, "progress": asdict(progress), "groups": groups, "plain": plain}
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}
    write_tensors(kept, path, meta)


def load(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any] | None, Progress]:
    """``({"model": ..., "ema": ..., "metrics": ...}, optimizer state dict, progress)``.

    Raises ValueError for a file that is not ours.
    """
    meta = read_metadata(path, (FORMAT,), "checkpoint")
    tensors = read_tensors(path, "checkpoint")
    try:
        return _parsed(tensors, meta)
    except BROKEN as error:
        raise ValueError(f"{path}: a damaged checkpoint ({in_one_line(error)})") from None


def _parsed(
    tensors: dict[str, Tensor], meta: dict[str, Any]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any] | None, Progress]:
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "metrics": {}}
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        kind, rest = key.split("/", 1)
        if kind == "optimizer":
            index, name = rest.split("/", 1)
            state.setdefault(int(index), {})[name] = value
        else:
            parts[kind][rest] = value
    for key, value in meta["plain"].items():
        index, name = key.split("/", 1)
        state.setdefault(int(index), {})[name] = value
    groups = TypeAdapter(list[dict[str, Any]]).validate_python(meta["groups"])
    optimizer = {"state": state, "param_groups": groups} if groups else None
    return parts, optimizer, TypeAdapter(Progress).validate_python(meta["progress"])
