"""What a model is made of, as one short digest: a file loads as the function it was saved from, or is refused."""

from __future__ import annotations

import hashlib
from typing import Any

from torch import Tensor, nn

from saccade.config import Config
from saccade.neurons import LIFConfig, Spiking

PLAIN = (int, float, str, bool, type(None))
# How a model came about is told by what it is made of; momentum is for training alone.
APART = ("training", "name", "transforms", "config", "momentum")


def structure(model: nn.Module) -> dict[str, str]:
    """By module path: its class and the settings that decide what it computes; its tensors' shapes.

    Settings are a module's public plain attributes; what only changes how it runs is private by convention. Learnt values are
    not among them.
    """
    return {path: " ".join(_describe(module)) for path, module in model.named_modules()}


def fingerprint(model: nn.Module) -> str:
    """16 hexadecimal digits that differ for models of another structure."""
    lines = "\n".join(f"{path}\t{words}" for path, words in structure(model).items())
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def first_difference(model: nn.Module, other: nn.Module) -> str:
    """In words, the first module in which two structures differ; empty if they are the same."""
    mine, theirs = ({path: _describe(part) for path, part in one.named_modules()} for one in (model, other))
    for path in {**mine, **theirs}:
        here, there = mine.get(path, ["nothing"]), theirs.get(path, ["nothing"])
        if here != there:
            only = [
                " ".join(part for part in one if part not in set(rest)) for one, rest in ((here, there), (there, here))
            ]
            return f"{path or 'the model'} ({here[0]}) has {only[0] or 'less'} here, {only[1] or 'less'} there"
    return ""


def _describe(module: nn.Module) -> list[str]:
    parts = [type(module).__name__]
    settings = {name: value for name, value in vars(module).items() if not name.startswith("_") and name not in APART}
    if isinstance(module, Spiking):
        settings["config"] = module.config
    for name, value in sorted(settings.items()):
        words = _plain(value)
        if words is not None:
            parts.append(f"{name}={words}")
    for kind in (module._parameters, module._buffers):
        parts += [f"{name}:{list(value.shape)}" for name, value in kind.items() if isinstance(value, Tensor)]
    return parts


def _plain(value: Any) -> str | None:
    if isinstance(value, LIFConfig) and isinstance(value.v_th, tuple):
        value = {**vars(value), "v_th": f"{len(value.v_th)} channels"}  # learnt, or folded: not structure
    if isinstance(value, dict):
        return repr({key: _plain(item) for key, item in value.items()})
    if isinstance(value, Config):
        return f"{type(value).__name__}({', '.join(f'{key}={_plain(item)}' for key, item in vars(value).items())})"
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, tuple | list) and all(_plain(item) is not None for item in value):
        return "(" + ", ".join(str(_plain(item)) for item in value) + ")"
    return f"{type(value).__name__}:{value.name}" if isinstance(getattr(value, "name", None), str) else None
