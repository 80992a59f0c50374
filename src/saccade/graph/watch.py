"""Watches a model run: every operation that torch dispatches, the module that runs it, and what its result can hold."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from saccade.graph.alphabet import Alphabet
from saccade.graph.call import Call
from saccade.graph.formula import place_of
from saccade.graph.observe import selected
from saccade.graph.records import OpRecord
from saccade.graph.rules import RULES, CountingRule
from saccade.graph.tape import Known, Tape

ROOT = "(model)"
# No views by name, but their results lie in the memory of their argument.
SHARING = frozenset(("_unsafe_view", "detach", "alias", "lift_fresh", "unsafe_split", "unsafe_split_with_sizes"))


def is_neuron(module: nn.Module) -> bool:
    """A module that declares `levels`, the values its output may take, is a spiking neuron (see ``levels_of``)."""
    return bool(levels_of(module))


def levels_of(module: nn.Module) -> tuple[float, ...]:
    """The values that a module declares for its output; none if it is no neuron.

    Others call other things "levels" (of a pyramid, of a wavelet): what is no list of different finite numbers with zero, for
    no spike, among them declares nothing.
    """
    levels = getattr(module, "levels", None)
    if not isinstance(levels, tuple | list) or len(levels) < 2:
        return ()
    if not all(isinstance(level, int | float) and not isinstance(level, bool) and isfinite(level) for level in levels):
        return ()
    return tuple(float(level) for level in levels) if 0 in levels and len(set(levels)) == len(levels) else ()


def tensors_in(values: Any) -> list[Tensor]:
    """The tensors in nested lists, tuples, mappings and what else torch knows to take apart, in order."""
    result: list[Tensor] = []
    _collect(values, result)
    return result


def _collect(values: Any, result: list[Tensor]) -> None:
    if isinstance(values, Tensor):
        result.append(values)
    elif isinstance(values, tuple | list):
        for value in values:
            _collect(value, result)
    elif isinstance(values, dict):
        for value in values.values():
            _collect(value, result)
    elif values is not None and not isinstance(values, int | float | str | torch.dtype | torch.device):
        result += [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


@contextmanager
def eager() -> Iterator[None]:
    """Inside, nothing runs that dispatch cannot look into: compiled modules run uncompiled, torch's attention step by step."""
    # Nothing is compiled unless dynamo was imported, which is slow to do here.
    compiled = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with compiled:
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@dataclass(frozen=True)
class Operation:
    """What there is to know of an operation but for its arguments.

    name: as in ``saccade.graph.counts``. aliases: its result is, or lies in, the memory of an argument. mutates: positions and
    names of the arguments that it writes. in_place: it writes its first argument and returns it.
    """

    name: str
    aliases: bool
    mutates: tuple[tuple[int, str], ...]
    in_place: bool

    def written(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
        """The argument tensors that it writes."""
        return tensors_in([args[i] if i < len(args) else kwargs.get(name) for i, name in self.mutates])


@functools.cache
def operation(func: Any) -> Operation:
    """The record of an overload, such as ``torch.ops.aten.add.Tensor``."""
    schema = func._schema
    library, name = schema.name.split("::")
    if library != "aten":
        name = schema.name
    reshapes = torch.Tag.inplace_view in func.tags
    mutates = tuple(
        (i, argument.name)
        for i, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )
    in_place = bool(mutates) and schema.name.endswith("_")
    bare = name.removesuffix("_")
    return Operation(bare, func.is_view or reshapes or bare in SHARING, () if reshapes else mutates, in_place)


class Watcher(TorchDispatchMode):
    """Runs models and knows, of every tensor, whether it depends on the input and which values it can hold.

    Neurons (modules that declare ``levels``, or that ``levels`` declares) are one thing each: nothing inside is looked at.
    Subclasses say what is done with what is seen: ``record``, ``unknown``, ``entered``, ``left``, ``fired``.
    """

    def __init__(self, levels: Mapping[nn.Module, Sequence[float]] | None = None, narrow: bool = True) -> None:
        super().__init__()
        self.stack: list[tuple[str, nn.Module]] = []
        self.in_neuron = False
        self._levels = dict(levels or {})
        self._narrow = narrow
        self.start()

    def start(self, *inputs: Tensor, alphabets: Sequence[Alphabet | None] = ()) -> None:
        """Begin a run on these tensors, which hold analog values unless ``alphabets`` says otherwise."""
        self.tape = Tape(self._narrow)
        for i, x in enumerate(inputs):
            self.tape[x] = Known(alphabets[i] if i < len(alphabets) else None, live=True)

    def record(self, op: OpRecord) -> None:
        """Operations on what depends on the input."""

    def unknown(self, where: str, func: Any) -> None:
        """An operation on floats that has no rule."""

    def entered(self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Before a module is called; what it returns is handed to ``left``."""
        return False

    def left(self, noted: Any, path: str, module: nn.Module, result: Any) -> None:
        """After a module was called; ``result`` is None if it failed."""

    def fired(
        self, path: str, module: nn.Module, levels: tuple[float, ...], arguments: list[Tensor], spikes: Tensor
    ) -> None:
        """After a neuron was called."""

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Attributes operations to the modules of a model, for calls of ``forward`` and of ``step``."""
        saved: list[tuple[nn.Module, str, Any]] = []
        missing = object()
        try:
            for path, module in model.named_modules():
                levels = self.levels(module)
                for name in ("forward", "step"):
                    method = getattr(module, name, None)
                    if callable(method) and not isinstance(method, nn.Module):
                        saved.append((module, name, module.__dict__.get(name, missing)))
                        if levels:
                            module.__dict__[name] = self._neuron_call(path, module, levels, method)
                        else:
                            module.__dict__[name] = self._module_call(path, module, method)
            yield
        finally:
            for module, name, before in saved:
                if before is missing:
                    del module.__dict__[name]
                else:
                    module.__dict__[name] = before

    def levels(self, module: nn.Module) -> tuple[float, ...]:
        """The values of a neuron's output; none for another module."""
        declared = self._levels.get(module)
        return levels_of(module) if declared is None else tuple(float(level) for level in declared)

    def _module_call(self, path: str, module: nn.Module, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.in_neuron:
                return method(*args, **kwargs)
            self.stack.append((path, module))
            noted, result = self.entered(path, module, args, kwargs), None
            try:
                result = method(*args, **kwargs)
            finally:
                self.stack.pop()
                self.left(noted, path, module, result)
            return result

        return call

    def _neuron_call(
        self, path: str, module: nn.Module, levels: tuple[float, ...], method: Callable[..., Any]
    ) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.in_neuron:  # forward calls step
                return method(*args, **kwargs)
            noted, result = self.entered(path, module, args, kwargs), None
            self.in_neuron = True
            try:
                result = method(*args, **kwargs)
                tensors = tensors_in(result)
                if not tensors:
                    raise ValueError(f"{path or ROOT}: a neuron returns its spikes, but this one gave no tensor")
                spikes, *others = tensors
                for other in others:
                    self.tape[other] = Known(live=True)
                self.fired(path, module, levels, tensors_in((args, kwargs)), spikes)
                self.tape[spikes] = Known(Alphabet.of_levels(levels), True, spikes._version)
            finally:
                self.in_neuron = False
                self.left(noted, path, module, result)
            return result

        return call

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tape = self.tape
        if self.in_neuron:
            out = func(*args, **kwargs)
            if not func.is_view and any(tape[x].live for x in tensors_in((args, kwargs))):
                for x in tensors_in(out):  # a potential may be read outside
                    tape[x] = Known(live=True)
            return out
        op = operation(func)
        if op.aliases:
            return func(*args, **kwargs)
        rule = RULES.get(op.name)
        inputs = tensors_in((args, kwargs))
        live = any(tape[x].live for x in inputs)
        before = args
        if op.in_place and rule is not None and tape[args[0]].alphabet:
            before = (self._copied(args[0]), *args[1:])  # the rule looks at the values that went in
        out = func(*args, **kwargs)
        outputs = tensors_in(out) or op.written(args, kwargs)
        if not outputs:
            return out
        floats = any(x.dtype.is_floating_point or x.dtype.is_complex for x in inputs + outputs)
        if rule is None:
            if live and floats:
                self.unknown(self.stack[-1][0] or ROOT if self.stack else ROOT, func)
            alphabet, formula = None, None
        else:
            spikes = any(tape[x].alphabet for x in inputs)
            wanted = (live or rule.on_constants) and (floats or spikes or rule.on_integers)
            alphabet, formula = self._ask(op, rule, before, kwargs, outputs[0], live) if wanted else (None, None)
        moved = rule is not None and rule.moves and op.name != "_to_copy"
        trusted = moved and all(tape[x].checked == x._version for x in inputs)
        for i, x in enumerate(outputs):
            known = Known(alphabet, live) if i == 0 else Known(None, live)
            if trusted:
                known = replace(known, checked=x._version)
            if i == 0 and formula is not None:
                known = replace(known, formula=replace(formula, place=place_of(x)))
            if op.mutates:
                tape.write(x, known)
            elif live or known.alphabet:
                tape[x] = known
        return out

    def _copied(self, x: Tensor) -> Tensor:
        copy = x.clone()
        known = self.tape[x]
        if known.formula is not None:
            same = known.formula.place == place_of(x)
            known = replace(known, formula=replace(known.formula, place=place_of(copy)) if same else None)
        self.tape[copy] = replace(known, checked=-1)
        return copy

    def _ask(
        self, op: Operation, rule: CountingRule, args: Any, kwargs: dict[str, Any], out: Tensor, live: bool
    ) -> tuple[Alphabet | None, Any]:
        """The alphabet of an operation's first output, and how its values came about; its rule counts."""
        path, module = self.stack[-1] if self.stack else ("", None)
        bias = getattr(module, "bias", None)
        record = self.record if live else _ignore
        call = Call(op.name, args, kwargs, out, self.tape, path or ROOT, bias, record)
        alphabet = rule.rule(call)
        return alphabet, call.formula if alphabet is not None else None


def outside_levels(path: str, y: Tensor, levels: Sequence[float]) -> str:
    """The error of a neuron whose output is not what it declares."""
    outside = y[torch.stack([y != level for level in levels]).all(0)]
    return f"{path}: value {outside[0].item():g} is not one of the declared levels {tuple(levels)}"


def declared_levels(
    model: nn.Module, spiking: Mapping[str, Sequence[float]] | None
) -> dict[nn.Module, Sequence[float]]:
    """The modules at the paths of ``spiking``, with their levels. Raises ValueError for a path that is not there or for levels
    on no grid."""
    modules = selected(model, list(spiking or {}))
    for path, levels in (spiking or {}).items():
        try:
            Alphabet.of_levels(levels)
        except ValueError as error:
            raise ValueError(f"{path or ROOT}: {error}") from None
    return {module: (spiking or {})[path] for path, module in modules.items()}


def _ignore(record: OpRecord) -> None:
    """Work on constants is done once, before the first input."""
