"""Counts the operations and the spikes of a model that is watched while it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor, nn

from saccade.graph.alphabet import Alphabet
from saccade.graph.records import Counts, NeuronRecord, OpRecord
from saccade.graph.watch import ROOT, Watcher, outside_levels, tensors_in

NEURON_NAMES = re.compile(r"LIF|Neuron|Spik|IFNode|^IF$|Leaky|[Mm]em_?[Uu]pdate|Izhikevich")


@dataclass(frozen=True)
class Layout:
    """Where a neuron of others keeps its samples in what it gives: on axis `batch`, each of them `fold` times (time folded into
    the batch, outermost); and its steps: on axis `time`, or None where a call is one step."""

    batch: int
    fold: int = 1
    time: int | None = None

    def steps_first(self, y: Tensor, samples: int) -> Tensor:
        """`[T, N, ...]`."""
        if self.fold > 1:
            return y.unflatten(self.batch, (self.fold, samples)).movedim((self.batch, self.batch + 1), (0, 1))
        if self.time is not None:
            return y.movedim((self.time, self.batch), (0, 1))
        return y.movedim(self.batch, 0)[None]


class Counter(Watcher):
    """Counts a model's forward passes into `records` (operations), `neurons` (spikes) and `states` (bits kept by others).

    Raises (from the model's call):
        NotImplementedError: an operation on floats that depends on the input and has no counting rule.
        ValueError: values outside the declared spike alphabet, or a neuron that was not given `[T, N, ...]`.
    """

    def __init__(
        self,
        declared: Mapping[nn.Module, Sequence[float]] | None = None,
        layouts: Mapping[nn.Module, Layout] | None = None,
    ) -> None:
        """declared: neurons of others and the values they emit; layouts: where these keep samples and steps."""
        self._layouts = dict(layouts or {})
        self.undeclared: dict[str, str] = {}  # what gives spikes though nothing declares it: path -> class
        self.records: dict[tuple[Any, ...], OpRecord] = {}
        self.neurons: dict[str, NeuronRecord] = {}
        self.states: dict[str, int] = {}
        self.kinds: dict[str, str] = {}  # layer path -> class name, in order of first work
        self._samples = 0
        self._step: dict[str, int] = {}
        self._since_neuron: list[OpRecord] = []
        super().__init__(declared)

    def begin(self, inputs: Sequence[Tensor], samples: int, alphabets: Sequence[Alphabet | None] = ()) -> None:
        """Begins a batch: inputs of `samples` samples, analog unless `alphabets` says otherwise."""
        self.start(*inputs, alphabets=alphabets)
        self._samples = samples
        self._step = {}
        self._since_neuron = []

    def record(self, op: OpRecord) -> None:
        key = (op.layer, op.op, op.fan_in, op.spiking, op.inputs and op.outputs / op.inputs)
        old = self.records.setdefault(key, op)
        if old is not op:
            old.outputs += op.outputs
            old.inputs += op.inputs
            old.events += op.events
            old.counts.add(op.counts)
            if old.alphabet and op.alphabet:
                old.alphabet = old.alphabet.join(op.alphabet)
        self._since_neuron.append(old)
        if op.layer not in self.kinds:
            self.kinds[op.layer] = type(self.stack[-1][1]).__name__ if self.stack else ROOT

    def unknown(self, where: str, func: Any) -> None:
        name = func._schema.name.removeprefix("aten::")
        raise NotImplementedError(
            f"{where}: no counting rule for {func}; add one with @saccade.graph.counts({name!r}), before profiling"
        )

    def left(self, noted: Any, path: str, module: nn.Module, result: Any) -> None:
        if noted and result is not None and not self.in_neuron:
            self.in_neuron = True  # looking is no work of the model's
            try:
                if self._spikes_unsaid(path, module, noted, tensors_in(result)[:1]):
                    self.undeclared[path or ROOT] = type(module).__name__
            finally:
                self.in_neuron = False

    def _spikes_unsaid(self, path: str, module: nn.Module, given: list[Tensor], gave: list[Tensor]) -> bool:
        """Whether a module gives zeros and ones for analog values, or is called like a neuron and gives nothing but zeros."""
        if not gave or not gave[0].dtype.is_floating_point or not gave[0].numel():
            return False
        within = f"{path}." if path else ""
        if any(other.startswith(within) for other in (*self.undeclared, *self.neurons)):
            return False  # a part of it is the neuron
        if any(self.tape[x].alphabet is not None or bool(((x == 0) | (x == 1)).all()) for x in given):
            return False
        y = gave[0]
        ones = int((y == 1).count_nonzero())
        if ones + int((y == 0).count_nonzero()) != y.numel():
            return False
        return 0 < ones < y.numel() or (not ones and NEURON_NAMES.search(type(module).__name__) is not None)

    def entered(self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self.in_neuron and not self.levels(module) and path not in self.states:
            bits = _state_bits(module, tensors_in((args, kwargs)))
            if bits is not None:
                self.states[path] = bits
                self.kinds.setdefault(path or ROOT, type(module).__name__)
        if self.in_neuron or self.levels(module):
            return None
        return [x for x in tensors_in((args, kwargs))[:1] if x.dtype.is_floating_point]

    def fired(
        self, path: str, module: nn.Module, levels: tuple[float, ...], arguments: list[Tensor], spikes: Tensor
    ) -> None:
        path, y = path or ROOT, spikes
        if module in self._layouts:
            y = self._layouts[module].steps_first(y, self._samples)
        if y.dim() < 2 or y.shape[1] != self._samples:
            raise ValueError(
                f"{path}: a neuron works on [T, N, ...] with N = {self._samples} samples here, but gave {list(y.shape)}; "
                "was time folded into the batch?"
            )
        alphabet = Alphabet.of_levels(levels)
        first = self._step.get(path, 0)
        record = self.neurons.get(path)
        if record is None:
            bits = _state_bits(module, arguments)
            record = NeuronRecord(path, getattr(module, "role", ""), alphabet, y[:1, :1].numel(), state_bits=bits)
            self.neurons[path] = record
            self.kinds.setdefault(path, type(module).__name__)
        if record.neurons != y[:1, :1].numel():
            raise ValueError(
                f"{path}: {y[:1, :1].numel()} neurons a sample, but {record.neurons} before; profile one input size"
            )
        per_step = record.spikes_per_step
        per_step.extend([0] * (first + y.shape[0] - len(per_step)))
        seen = 0
        for level in dict.fromkeys(levels):
            k = abs(round(level / float(alphabet.unit)))
            for t, step in enumerate(y == level):
                hits = int(step.count_nonzero())
                seen += hits
                per_step[first + t] += k * hits
        if seen != y.numel():
            raise ValueError(outside_levels(path, y, levels))
        self._step[path] = first + y.shape[0]
        record.updates += y.numel()
        for op in self._since_neuron:
            op.readout = False
        self._since_neuron = []
        self.record(OpRecord(path, "neuron", outputs=y.numel(), counts=Counts(neuron_updates=y.numel())))


def _state_bits(module: nn.Module, arguments: list[Tensor]) -> int | None:
    """What a module on `[T, N, ...]` keeps of one sample from one step to the next; None if it does not say."""
    spec = getattr(module, "state_spec", None)
    if not callable(spec) or not arguments:
        return None
    return sum(prod(shape) * bits for shape, bits in spec(tuple(arguments[0].shape[2:])).values())
