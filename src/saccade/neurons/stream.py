"""The one place where state outlives a call."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from saccade.neurons.temporal import State, Temporal, current_stream

PART = "//"  # between the path of a module and the name of a part of its state, in files


class Stream:
    """Feed a model its sequence in chunks, keeping its modules' states between calls.

    >>> stream = Stream(model.eval())
    >>> first, second = stream(x[:3]), stream(x[3:])      # the steps that model(x, steps=True) would give

    ``stream(chunk)`` takes ``[t, N, ...]`` and returns the model's output per step, ``[t, N, ...]``; a model of ours takes a
    frame ``[N, C, H, W]`` too, as one step, and returns what it says then, ``[N, ...]``. The model must be in
    eval mode and causal: a module with ``causal = False`` or a ``fixed_T`` is refused by name with a ValueError.
    States are kept by module path, without their gradients' graphs; ``reset()``, ``save(path)`` and ``load(path)`` act on them.
    """

    def __init__(self, model: nn.Module) -> None:
        for path, module in model.named_modules():
            if not getattr(module, "causal", True) or getattr(module, "fixed_T", None) is not None:
                what = "looks at later steps" if not getattr(module, "causal", True) else f"needs T = {module.fixed_T}"
                raise ValueError(f"{path or 'the model'} ({type(module).__name__}) {what}, so it cannot be streamed")
        self.model = model
        self.states: dict[str, Tensor | dict[str, Tensor]] = {}
        self._paths = {module: path for path, module in model.named_modules() if isinstance(module, Temporal)}
        self._called: set[str] = set()

    def __call__(self, chunk: Tensor) -> Tensor:
        if self.model.training:
            raise ValueError("a stream needs model.eval(): batch statistics would depend on how time is cut")
        self._called.clear()
        token = current_stream.set(self)
        try:
            if not getattr(self.model, "gives_steps", False):
                result: Tensor = self.model(chunk)
            elif chunk.dim() == 4:  # the model alone would show it for all of its T steps
                result = self.model(chunk[None], steps=True)[0]
            else:
                result = self.model(chunk, steps=True)
        finally:
            current_stream.reset(token)
        return result

    def advance(self, module: Temporal, x: Tensor) -> Tensor:
        """Step one module of the model from its kept state (called by the modules themselves)."""
        path = self._paths[module]
        if path in self._called:
            raise ValueError(f"{path}: is called twice in one forward, so a stream cannot tell whose state to keep")
        self._called.add(path)
        before = self.states.get(path)
        samples = {len(part) for part in _parts(before).values()}
        if samples and samples != {x.shape[1]}:
            raise ValueError(f"the stream holds {samples.pop()} samples, got {x.shape[1]}; call reset() first")
        y, state = module.step(x, before)
        if state is not None:
            self.states[path] = _detached(state)
        return y

    def reset(self) -> None:
        """Back to rest."""
        self.states.clear()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the states to a safetensors file (aside, then renamed)."""
        aside = Path(path).with_name(Path(path).name + ".part")
        tensors = {
            where + (f"{PART}{name}" if name else ""): part.contiguous()
            for where, state in self.states.items()
            for name, part in _parts(state).items()
        }
        save_file(tensors, aside)
        os.replace(aside, path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Read states written by ``save``. Raises ValueError for an unreadable file or the states of another model."""
        try:
            tensors: dict[str, Any] = load_file(path)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path}: cannot read the stream's states: {error}") from None
        states: dict[str, Any] = {}
        for key, part in tensors.items():
            where, _, name = key.partition(PART)
            if name:
                states.setdefault(where, {})[name] = part
            else:
                states[where] = part
        unknown = states.keys() - set(self._paths.values())
        if unknown:
            raise ValueError(f"{path}: holds states of another model, e.g. for {sorted(unknown)[0]!r}")
        self.states = states


def _parts(state: State) -> dict[str, Tensor]:
    """A state as a dict; a state of one tensor under the empty name."""
    if state is None:
        return {}
    return {"": state} if isinstance(state, Tensor) else state


def _detached(state: Tensor | dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
    """Without the graph of the steps before, which would grow for ever."""
    if isinstance(state, Tensor):
        return state.detach()
    return {name: part.detach() for name, part in state.items()}
