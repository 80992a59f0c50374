"""Modules that mix time, and the one place where their state outlives a call: ``Stream``."""

from __future__ import annotations

import contextvars
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

_stream: contextvars.ContextVar[Stream | None] = contextvars.ContextVar("saccade_stream", default=None)


class Temporal(nn.Module):
    """Base of every module that mixes time.

    A subclass implements ``step(x, state) -> (y, state)`` on ``[t, N, ...]``, where ``state=None`` means rest.
    ``forward(x)`` starts from rest and keeps nothing, except inside a ``Stream``, which holds the states itself.
    ``causal``: an output step depends on no later input step. ``fixed_T``: the only T the module works for, or None.
    """

    causal: bool = True
    fixed_T: int | None = None

    def step(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError

    def whole(self, x: Tensor) -> Tensor:
        """The output for a whole sequence, from rest; overridden where not having to return the state saves something."""
        return self.step(x, None)[0]

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():  # streams run eagerly, and the context variable would break the graph
            return self.whole(x)
        stream = _stream.get()
        return self.whole(x) if stream is None else stream.advance(self, x)


class Stream:
    """Feed a model its sequence in chunks, keeping the neurons' states between calls.

    >>> stream = Stream(model.eval())
    >>> first, second = stream(x[:3]), stream(x[3:])      # the steps that model(x, steps=True) would give

    ``stream(chunk)`` takes ``[t, N, ...]`` and returns the model's output per step, ``[t, N, K]``. The model must be in
    eval mode and causal: a module with ``causal = False`` or a ``fixed_T`` is refused by name with a ValueError.
    States are kept by module path; ``reset()``, ``save(path)`` and ``load(path)`` act on them.
    """

    def __init__(self, model: nn.Module) -> None:
        for path, module in model.named_modules():
            if not getattr(module, "causal", True) or getattr(module, "fixed_T", None) is not None:
                what = "looks at later steps" if not getattr(module, "causal", True) else f"needs T = {module.fixed_T}"
                raise ValueError(f"{path or 'the model'} ({type(module).__name__}) {what}, so it cannot be streamed")
        self.model = model
        self.states: dict[str, Tensor] = {}
        self._paths = {module: path for path, module in model.named_modules() if isinstance(module, Temporal)}
        self._called: set[str] = set()
        self._takes_steps = hasattr(model, "num_classes")

    def __call__(self, chunk: Tensor) -> Tensor:
        if self.model.training:
            raise ValueError("a stream needs model.eval(): batch statistics would depend on how time is cut")
        self._called.clear()
        token = _stream.set(self)
        try:
            result: Tensor = self.model(chunk, steps=True) if self._takes_steps else self.model(chunk)
        finally:
            _stream.reset(token)
        return result

    def advance(self, module: Temporal, x: Tensor) -> Tensor:
        """Step one module of the model from its kept state (called by the modules themselves)."""
        path = self._paths[module]
        if path in self._called:
            raise ValueError(f"{path}: is called twice in one forward, so a stream cannot tell whose state to keep")
        self._called.add(path)
        state = self.states.get(path)
        if state is not None and state.shape[0] != x.shape[1]:
            raise ValueError(f"the stream holds {state.shape[0]} samples, got {x.shape[1]}; call reset() first")
        y, state = module.step(x, state)
        if state is not None:
            self.states[path] = state
        return y

    def reset(self) -> None:
        """Back to rest."""
        self.states.clear()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the states to a safetensors file (aside, then renamed)."""
        aside = Path(path).with_name(Path(path).name + ".part")
        save_file({name: state.detach().contiguous() for name, state in self.states.items()}, aside)
        os.replace(aside, path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Read states written by ``save``. Raises ValueError for an unreadable file or the states of another model."""
        try:
            states: dict[str, Any] = load_file(path)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path}: cannot read the stream's states: {error}") from None
        unknown = states.keys() - set(self._paths.values())
        if unknown:
            raise ValueError(f"{path}: holds states of another model, e.g. for {sorted(unknown)[0]!r}")
        self.states = states
