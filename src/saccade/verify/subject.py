"""A model under test: how to call it, what its modules gave, and how to compare two runs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

TOLERANCE = 1e-10  # for values that are no spikes, in float64, relative to the largest of them where that exceeds 1
ROOT = "(model)"
DITHER = 1e-6  # how far weights are moved, relatively, to see whether a difference was a tie

Key = tuple[str, int, int]  # module path ("" is the model), which tensor of its output, which of its calls
Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class View:
    """The inputs of one call; ``batch`` and ``time`` are the axes of the first (``time`` None: no time axis).

    others: further inputs, with their axes.
    """

    name: str
    x: Tensor
    batch: int
    time: int | None
    others: tuple[tuple[Tensor, int, int | None], ...] = ()

    @property
    def inputs(self) -> Inputs:
        return (self.x, *(other[0] for other in self.others))

    @property
    def axes(self) -> tuple[tuple[int, int | None], ...]:
        return ((self.batch, self.time), *(other[1:] for other in self.others))

    @property
    def samples(self) -> int:
        return self.x.shape[self.batch]

    @property
    def steps(self) -> int:
        return next((x.shape[time] for x, (_, time) in zip(self.inputs, self.axes, strict=True) if time is not None), 1)

    def holding(self, inputs: Sequence[Tensor]) -> View:
        """The same with other inputs."""
        others = tuple((x, *other[1:]) for x, other in zip(inputs[1:], self.others, strict=True))
        return replace(self, x=inputs[0], others=others)

    def each(self, change: Callable[[Tensor, int, int | None], Tensor]) -> Inputs:
        """``change(x, batch, time)`` of every input."""
        return tuple(change(x, *axes) for x, axes in zip(self.inputs, self.axes, strict=True))

    def take(self, *samples: int) -> Inputs:
        """Some of the samples, in this order."""
        return self.each(lambda x, batch, _: x.index_select(batch, torch.tensor(samples, device=x.device)))

    def shapes(self) -> str:
        return " and ".join(str(list(x.shape)) for x in self.inputs)


class Run(dict[Key, Tensor]):
    """Outputs of modules in the order in which they finished; those of the model itself come last.

    given: the first tensor that each call of a neuron was given, as it was then, where that was asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[Key, Tensor] = {}


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
        self.looks_ahead = ""  # why the model was found not to be causal, if it was
        self.wrote = False  # whether a call wrote into its input
        self.narrow: set[str] = set()  # classes of neurons whose float32 spikes had to be cast up
        self._known: dict[tuple[str, str], Run] = {}
        self._called: dict[str, nn.Module] = {}
        self.twice = ""  # a module of ours that a forward pass calls twice
        self._cast_up(model)

    def copy(self) -> nn.Module:
        made = copy.deepcopy(self.model)
        self._cast_up(made)  # a __deepcopy__ of their own may have dropped the hooks (sinabs)
        return made

    def with_model(self, model: nn.Module) -> Subject:
        """The same questions to another model of the same structure."""
        other = Subject(model, self.views, self.levels, self.neurons, self.reset, self.takes_steps)
        other.leaky, other.narrow = self.leaky, self.narrow
        return other

    def dithered(self) -> Subject:
        """The same model with each weight moved by about a millionth: no potential meets a threshold exactly any more."""
        model = self.copy()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.is_floating_point():
                    noise = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
                    parameter.mul_(1 + DITHER * (noise.to(parameter) + 0.5))
        return self.with_model(model)

    def _cast_up(self, model: nn.Module) -> None:
        """Cast the float32 spikes of neurons that got float64 up again (snnTorch's always are float32; no spike changes)."""
        for path in self.neurons:
            module = model.get_submodule(path)
            if not any(isinstance(hook, _CastUp) for hook in module._forward_hooks.values()):
                module.register_forward_hook(_CastUp(self.narrow))

    def ready(self) -> nn.Module:
        """The model to call next: reset if there is a reset, and fresh if it was seen to leak."""
        model = self.copy() if self.leaky else self.model
        self.at_rest(model)
        return model

    def at_rest(self, model: nn.Module) -> None:
        if self.reset is not None:
            self.reset(model)

    def call(self, model: nn.Module, inputs: Inputs) -> object:
        """Call a model on copies of the inputs, since it may write into what it is given (``wrote`` says that it did)."""
        given = tuple(x.clone() for x in inputs)
        versions = [x._version for x in given]
        result = model(*given, steps=True) if self.takes_steps else model(*given)
        self.wrote = self.wrote or versions != [x._version for x in given]
        return result

    def run(self, inputs: Inputs, every: bool = False, on: nn.Module | None = None, given: bool = False) -> Run:
        """Outputs of the model and its spiking modules, or of ``every`` module. ``on``: as it is, without a reset.

        given: with what the neurons were given.
        """
        model = self.ready() if on is None else on
        with torch.no_grad(), outputs(model, None if every else set(self.levels), self.neurons if given else ()) as run:
            self.call(model, inputs)
        return run

    def whole(self, view: View) -> Run:
        """The run on the whole of a view; made once."""
        return self._once(view, "whole", lambda: self.run(view.inputs))

    def alone(self, view: View) -> Run:
        """The run on the first sample of a view; made once."""
        return self._once(view, "alone", lambda: self.run(view.take(0)))

    def _once(self, view: View, what: str, make: Callable[[], Run]) -> Run:
        key = (view.name, what)
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def first_call(self, view: View) -> Run:
        """The run on the whole of a view, with what the neurons were given, on a copy that ``second_call`` goes on with."""
        model = self.copy()  # the model itself stays as it came, in case this one is left in another state
        self.at_rest(model)
        run = self._known[view.name, "whole"] = self.run(view.inputs, on=model, given=True)
        self._called[view.name] = model
        return run

    def second_call(self, view: View) -> tuple[Run, Run, str]:
        """Both runs, and the name of a parameter or buffer that the second changed, or ""."""
        first = self._known[view.name, "whole"] if view.name in self._called else self.first_call(view)
        model = self._called.pop(view.name)
        self.at_rest(model)
        before = {key: value.clone() for key, value in model.state_dict().items() if isinstance(value, Tensor)}
        second = self.run(view.inputs, on=model)
        self.at_rest(model)
        return first, second, changed_tensor(before, model)

    def forget(self) -> None:
        self._known.clear()

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


def changed_tensor(before: dict[str, Tensor], model: nn.Module) -> str:
    """The first parameter or buffer that is not what it was; NaN that stays NaN is no change."""
    after = model.state_dict()
    for key, value in before.items():
        now = after.get(key)
        if (
            now is None
            or now.shape != value.shape
            or not bool(((now == value) | ((now != now) & (value != value))).all())
        ):
            return key
    return ""


class _CastUp:
    """A hook; ``narrow`` takes the names of the classes that needed it."""

    def __init__(self, narrow: set[str]) -> None:
        self.narrow = narrow

    def __deepcopy__(self, memo: dict[int, Any]) -> _CastUp:
        return self  # copies of a model tell the same subject

    def __call__(self, module: nn.Module, args: object, result: object) -> object:
        def widen(y: Tensor) -> Tensor:
            if y.dtype != torch.float32:
                return y
            self.narrow.add(type(module).__name__)
            return y.double()

        return tree_map_only(Tensor, widen, result)


@contextmanager
def outputs(model: nn.Module, paths: set[str] | None, given: Sequence[str] = ()) -> Iterator[Run]:
    """Collect what the modules of ``paths`` (None: all) and the model itself give while the block runs, as it was when they
    gave it: what is written into a tensor later does not show. ``given``: modules whose first input is kept too.
    """
    run = Run()
    calls: dict[str, int] = {}
    asked: dict[str, int] = {}

    def ask(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: object, kwargs: object) -> None:
            nth = asked[path] = asked.get(path, -1) + 1
            x = next((y for y in tree_leaves((args, kwargs)) if isinstance(y, Tensor)), None)
            if x is not None:
                run.given[path, 0, nth] = x.detach().clone()

        return hook

    def collect(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: object, result: object) -> None:
            nth = calls[path] = calls.get(path, -1) + 1
            for leaf, value in enumerate(y for y in tree_leaves(result) if isinstance(y, Tensor)):
                run[path, leaf, nth] = value.detach().clone()

        return hook

    handles = [
        module.register_forward_hook(collect(path))
        for path, module in model.named_modules()
        if paths is None or path == "" or path in paths
    ]
    handles += [model.get_submodule(path).register_forward_pre_hook(ask(path), with_kwargs=True) for path in given]
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
