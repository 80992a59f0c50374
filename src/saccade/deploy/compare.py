"""A program beside the model that it was made from: which spikes differ."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saccade.deploy import engine as native
from saccade.deploy.program import Program
from saccade.graph import observe
from saccade.neurons.spiking import Spiking


@dataclass(frozen=True)
class Comparison:
    """Of some samples: levels that differ and levels seen, by the path of the neurons; the answers of both ``[N, ...]``."""

    different: dict[str, int]
    seen: dict[str, int]
    program: Any
    model: Any

    @property
    def mismatches(self) -> int:
        return sum(self.different.values())

    @property
    def levels(self) -> int:
        return sum(self.seen.values())

    @property
    def largest(self) -> float:
        """The largest difference of an answer."""
        return float(np.abs(self.program - self.model).max(initial=0.0))


def compare(program: Program, model: nn.Module, x: Tensor, *, engine: str = "numpy") -> Comparison:
    """Run the model in float64 and the program on whole numbers ``[N, C, H, W]`` or ``[T, N, C, H, W]`` (pixels of 0 to 255).

    engine: "numpy", the interpreter, or "native": the spikes are then those that the native engine computes. Raises ValueError
    for input that the program does not take, or a program that the engine cannot run.
    """
    own = copy.deepcopy(model).double().eval()
    fired: dict[str, list[Tensor]] = {}

    def note(path: str, module: Any, args: tuple[Any, ...], spikes: Tensor) -> None:
        fired.setdefault(path, []).append(spikes * divisor(module))

    with torch.no_grad(), observe(own, lambda path, module: isinstance(module, Spiking), note):
        answer = own(x.double() * program.unit).numpy()
    interpreted = engine == "numpy"
    found = dict(enumerate(program.trace(x.numpy()))) if interpreted else native.trace(program, x.numpy())
    different: dict[str, int] = {}
    seen: dict[str, int] = {}
    for i, wire in program.named():
        if not fired.get(wire.path):
            raise ValueError(
                f"{wire.path}: neurons that the program has and the model has not; was it made from another?"
            )
        theirs = np.rint(fired[wire.path].pop(0).numpy()).astype(np.int64)
        ours = np.broadcast_to(found[i], (len(theirs), *found[i].shape[1:])).reshape(theirs.shape)
        different[wire.path] = different.get(wire.path, 0) + int((ours != theirs).sum())
        seen[wire.path] = seen.get(wire.path, 0) + theirs.size
    wires = [
        found.get(i, found[0]) for i in range(len(program.wires))
    ]  # sums within the engine's kernels are read by nobody
    steps = program.logits(wires)
    return Comparison(different, seen, steps if steps.shape == answer.shape else program.answer(wires), answer)


def divisor(module: Any) -> float:
    """What the levels of a neuron are divided by."""
    return float(getattr(getattr(module, "constants", None), "divisor", 1.0))
