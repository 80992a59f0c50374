"""A model under test: how to call it, what its modules gave, and how to compare two runs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

TOLERANCE = 1e-10  # for values that are no spikes, in float64, relative to the largest of them where that exceeds 1
ROOT = "(model)"

Key = tuple[str, int, int]  # module path ("" is the model), which tensor of its output, which of its calls


@dataclass(frozen=True)
class View:
    """An input: ``batch`` and ``time`` are its axes (``time`` None: no time axis)."""

    name: str
    x: Tensor
    batch: int
    time: int | None

    @property
    def samples(self) -> int:
        return self.x.shape[self.batch]

    @property
    def steps(self) -> int:
        return 1 if self.time is None else self.x.shape[self.time]

    def take(self, *samples: int) -> Tensor:
        return self.x.index_select(self.batch, torch.tensor(samples, device=self.x.device))


Run = dict[Key, Tensor]  # outputs of modules in the order in which they finished; those of the model itself come last


class Subject:
    """A float64 copy of a model in eval mode, with what is known of it.

    ``levels``: module path -> the values its (first) output may take. ``neurons``: the paths among them that are layers of
    neurons (a residual block may declare levels too). ``leaky`` is set once two calls were seen to differ: from then on
    every run gets a fresh copy, so that the other checks still mean something.
    """

    def __init__(
        self,
        model: nn.Module,
        views: list[View],
        levels: Mapping[str, tuple[float, ...]],
        neurons: list[str],
        reset: Callable[[nn.Module], object] | None,
        takes_steps: bool,
    ) -> None:
        self.model = model
        self.views = views
        self.levels = levels
        self.neurons = neurons
        self.reset = reset
        self.takes_steps = takes_steps
        self.leaky = False

    def copy(self) -> nn.Module:
        return copy.deepcopy(self.model)

    def ready(self) -> nn.Module:
        """The model to call next: reset if there is a reset, and fresh if it was seen to leak."""
        model = self.copy() if self.leaky else self.model
        self.at_rest(model)
        return model

    def at_rest(self, model: nn.Module) -> None:
        if self.reset is not None:
            self.reset(model)

    def call(self, model: nn.Module, x: Tensor) -> object:
        return model(x, steps=True) if self.takes_steps else model(x)

    def run(self, x: Tensor, every: bool = False, on: nn.Module | None = None) -> Run:
        """Outputs of the model and its spiking modules, or of ``every`` module. ``on``: as it is, without a reset."""
        model = self.ready() if on is None else on
        with torch.no_grad(), outputs(model, None if every else set(self.levels)) as run:
            self.call(model, x)
        return run

    def exact(self, key: Key) -> bool:
        return key[0] in self.levels and key[1] == 0

    def same(self, key: Key, a: Tensor, b: Tensor) -> bool:
        return same(a, b, self.exact(key))

    def difference(self, a: Run, b: Run) -> Key | None:
        """The first output, in execution order, in which two runs on equal input differ; a module that ran in one only."""
        for key, value in a.items():
            if key not in b or not self.same(key, value, b[key]):
                return key
        return next((key for key in b if key not in a), None)


@contextmanager
def outputs(model: nn.Module, paths: set[str] | None) -> Iterator[Run]:
    """Collect what the modules of ``paths`` (None: all) and the model itself give while the block runs."""
    run: Run = {}
    calls: dict[str, int] = {}

    def collect(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: object, result: object) -> None:
            nth = calls[path] = calls.get(path, -1) + 1
            for leaf, value in enumerate(y for y in tree_leaves(result) if isinstance(y, Tensor)):
                run[path, leaf, nth] = value.detach()

        return hook

    handles = [
        module.register_forward_hook(collect(path))
        for path, module in model.named_modules()
        if paths is None or path == "" or path in paths
    ]
    try:
        yield run
    finally:
        for handle in handles:
            handle.remove()


def same(a: Tensor, b: Tensor, exact: bool) -> bool:
    """Equal to the bit, or within ``TOLERANCE``; NaN equals nothing."""
    if a.shape != b.shape:
        return False
    if exact or not a.is_floating_point():
        return torch.equal(a, b)
    return a.numel() == 0 or bool((a - b).abs().max() <= TOLERANCE * max(1.0, float(b.abs().max())))


def say(path: str) -> str:
    return path or ROOT


@dataclass(frozen=True)
class Axis:
    """Where a module's output keeps its samples: ``axis``, each of them ``fold`` times (T folded into N: fold = T)."""

    axis: int
    fold: int

    def sample(self, y: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """One sample of ``y``, read both ways: as if the folded axis had the samples inside, or outside."""
        n = y.shape[self.axis] // self.fold
        inside = y.unflatten(self.axis, (self.fold, n)).select(self.axis + 1, index)
        return inside, y.unflatten(self.axis, (n, self.fold)).select(self.axis, index)


def find_axes(one: Run, many: Run, samples: int) -> dict[Key, Axis]:
    """The sample axis of every output, from a run on one sample and one on ``samples`` of them."""
    found = {}
    for key, y in many.items():
        alone = one.get(key)
        if alone is None or alone.dim() != y.dim():
            continue
        grown = [i for i in range(y.dim()) if y.shape[i] != alone.shape[i]]
        if len(grown) == 1 and y.shape[grown[0]] == samples * alone.shape[grown[0]]:
            found[key] = Axis(grown[0], alone.shape[grown[0]])
    return found


@dataclass(frozen=True)
class Clock:
    """Where a module's output keeps its steps: over "calls", along an "axis", or "folded" into the sample axis."""

    kind: str
    axis: int = 0


def find_clocks(run: Run, view: View, axes: Mapping[Key, Axis]) -> dict[Key, Clock]:
    """The clock of every output that shows time; a module called once a step has one, under its first call."""
    found, T = {}, view.steps
    calls: dict[tuple[str, int], list[Tensor]] = {}
    for (path, leaf, _), value in run.items():
        calls.setdefault((path, leaf), []).append(value)
    for key, y in run.items():
        where, over = axes.get(key), calls[key[:2]]
        if T > 1 and len(over) == T:
            if key[2] == 0 and all(value.shape == y.shape for value in over):
                found[key] = Clock("calls")
        elif where is None:
            continue
        elif where.fold == T:
            found[key] = Clock("folded", where.axis)
        elif where.fold == 1 and where.axis == 1 and y.shape[0] == T:
            found[key] = Clock("axis", 0)
        elif where.fold == 1 and where.axis == 0 and view.time == 1 and y.dim() > 2 and y.shape[1] == T:
            found[key] = Clock("axis", 1)
    return found


def in_time(run: Run, key: Key, clock: Clock, steps: int) -> tuple[Tensor, ...]:
    """The output ``key`` of a run over ``steps`` steps as ``[steps, ...]``: nothing if it is not there in full, two
    tensors if time was folded into the batch, since it cannot be seen which of the two lies inside.
    """
    if clock.kind == "calls":
        calls = [y for (path, leaf, _), y in run.items() if (path, leaf) == key[:2]]
        return (torch.stack(calls),) if len(calls) == steps else ()
    y = run.get(key)
    if y is None or y.shape[clock.axis] % steps:
        return ()
    if clock.kind == "axis":
        return (y.movedim(clock.axis, 0),) if y.shape[clock.axis] == steps else ()
    outside = y.unflatten(clock.axis, (steps, -1)).movedim(clock.axis, 0)
    return outside, y.unflatten(clock.axis, (-1, steps)).movedim(clock.axis + 1, 0)
