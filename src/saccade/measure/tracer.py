"""Watches a model run: every aten operation that depends on the input, attributed to the module that dispatches it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from saccade.measure.alphabet import Alphabet
from saccade.measure.call import Call
from saccade.measure.records import Counts, NeuronRecord, OpRecord
from saccade.measure.rules import COPIES, INTEGER_RULES, MOVES, RULES, SHARING
from saccade.measure.tape import Known, Tape

ROOT = "(model)"


def is_neuron(module: nn.Module) -> bool:
    """A module that declares `levels`, the values its output may take, is a spiking neuron and opaque to counting."""
    levels = getattr(module, "levels", None)
    return isinstance(levels, tuple | list) and len(levels) > 0


class Tracer(TorchDispatchMode):
    """Counts the operations of a model's forward passes into `records` (operations) and `neurons` (spikes).

    Raises (from the model's call):
        NotImplementedError: an operation on floats that depends on the input and has no counting rule.
        ValueError: values outside the declared spike alphabet, or a neuron that was not given `[T, N, ...]`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[tuple[Any, ...], OpRecord] = {}
        self.neurons: dict[str, NeuronRecord] = {}
        self.kinds: dict[str, str] = {}  # layer path -> class name, in order of first work
        self._samples = 0
        self._tape = Tape()
        self._stack: list[tuple[str, nn.Module]] = []
        self._opaque = False
        self._step: dict[str, int] = {}
        self._since_neuron: list[OpRecord] = []

    def start(self, x: Tensor, samples: int) -> None:
        """Begins a batch: `x` is analog input of `samples` samples."""
        self._tape = Tape()
        self._tape[x] = Known(live=True)
        self._samples = samples
        self._step = {}
        self._since_neuron = []

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Attributes operations to modules, and treats neurons as one thing, for calls of `forward` and of `step`."""
        saved: list[tuple[nn.Module, str, Any]] = []
        missing = object()
        try:
            for path, module in model.named_modules():
                for name in ("forward", "step"):
                    method = getattr(module, name, None)
                    if callable(method) and not isinstance(method, nn.Module):
                        saved.append((module, name, module.__dict__.get(name, missing)))
                        wrap = self._neuron_call if is_neuron(module) else self._module_call
                        module.__dict__[name] = wrap(path or ROOT, module, method)
            yield
        finally:
            for module, name, before in saved:
                if before is missing:
                    del module.__dict__[name]
                else:
                    module.__dict__[name] = before

    def _module_call(self, path: str, module: nn.Module, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            self._stack.append((path, module))
            try:
                return method(*args, **kwargs)
            finally:
                self._stack.pop()

        return call

    def _neuron_call(self, path: str, module: nn.Module, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._opaque:  # forward calls step
                return method(*args, **kwargs)
            self._opaque = True
            try:
                result = method(*args, **kwargs)
                spikes, *others = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
                for other in others:
                    self._tape[other] = Known(live=True)
                self._fired(path, module, spikes)
            finally:
                self._opaque = False
            return result

        return call

    def _fired(self, path: str, module: nn.Module, y: Tensor) -> None:
        levels = [float(level) for level in module.levels]  # type: ignore[union-attr]
        if y.dim() < 2 or y.shape[1] != self._samples:
            raise ValueError(
                f"{path}: a neuron works on [T, N, ...] with N = {self._samples} samples here, but gave {list(y.shape)}; "
                "was time folded into the batch?"
            )
        alphabet = Alphabet.of_levels(levels)
        first = self._step.get(path, 0)
        record = self.neurons.get(path)
        if record is None:
            record = NeuronRecord(path, getattr(module, "role", ""), alphabet, y[:1, :1].numel())
            self.neurons[path] = record
            self.kinds.setdefault(path, type(module).__name__)
        if record.neurons != y[:1, :1].numel():
            raise ValueError(
                f"{path}: {y[:1, :1].numel()} neurons a sample, but {record.neurons} before; profile one input size"
            )
        spikes = record.spikes_per_step
        spikes.extend([0] * (first + y.shape[0] - len(spikes)))
        seen = 0
        for level in dict.fromkeys(levels):
            k = abs(round(level / float(alphabet.unit)))
            for t, step in enumerate(y == level):
                hits = int(step.count_nonzero())
                seen += hits
                spikes[first + t] += k * hits
        if seen != y.numel():
            outside = y[torch.stack([y != level for level in levels]).all(0)]
            raise ValueError(f"{path}: value {outside[0].item():g} is not one of the declared levels {tuple(levels)}")
        self._step[path] = first + y.shape[0]
        record.updates += y.numel()
        self._tape[y] = Known(alphabet, True, y._version)
        for op in self._since_neuron:
            op.readout = False
        self._since_neuron = []
        self._record(OpRecord(path, "neuron", outputs=y.numel(), counts=Counts(neuron_updates=y.numel())))

    def _record(self, new: OpRecord) -> None:
        key = (new.layer, new.op, new.fan_in, new.spiking, new.inputs and new.outputs / new.inputs)
        old = self.records.setdefault(key, new)
        if old is not new:
            old.outputs += new.outputs
            old.inputs += new.inputs
            old.events += new.events
            old.counts.add(new.counts)
            if old.alphabet and new.alphabet:
                old.alphabet = old.alphabet.join(new.alphabet)
        self._since_neuron.append(old)
        if new.layer not in self.kinds:
            self.kinds[new.layer] = type(self._stack[-1][1]).__name__ if self._stack else ROOT

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._opaque or func.is_view:
            return func(*args, **kwargs)
        name = func._schema.name.split("::")[1].removesuffix("_")
        rule = RULES.get(name) if func.namespace == "aten" else None
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        live = any(self._tape[x].live for x in inputs)
        in_place = func._schema.is_mutable and func._schema.name.endswith("_")
        before = args
        if in_place and rule is not None and self._tape[args[0]].alphabet:
            before = (args[0].clone(), *args[1:])  # the rule looks at the values that went in
            self._tape[before[0]] = replace(self._tape[args[0]], checked=-1)
        out = func(*args, **kwargs)
        outputs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if not outputs or name in SHARING:
            return out
        floats = any(x.dtype.is_floating_point or x.dtype.is_complex for x in inputs + outputs)
        where, module = self._stack[-1] if self._stack else (ROOT, None)
        if live and rule is None and floats:
            raise NotImplementedError(f"{where}: no counting rule for {func}; add one to saccade.measure.rules")
        alphabet = None
        spikes = any(self._tape[x].alphabet for x in inputs)
        if rule is not None and (live or rule in COPIES) and (floats or spikes or name in INTEGER_RULES):
            record = self._record if live else _ignore
            bias = getattr(module, "bias", None)
            alphabet = rule(Call(name, before, kwargs, outputs[0], self._tape, where, bias, record))
        trusted = rule is MOVES and name != "_to_copy" and all(self._tape[x].checked == x._version for x in inputs)
        for i, x in enumerate(outputs):
            known = Known(alphabet if i == 0 else None, live, x._version if trusted else -1)
            if func._schema.is_mutable:
                self._tape.write(x, known)
            elif live or known.alphabet:
                self._tape[x] = known
        return out


def _ignore(record: OpRecord) -> None:
    """Work on constants is done once, before the first input."""
