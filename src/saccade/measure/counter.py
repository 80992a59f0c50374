"""Counts the operations and the spikes of a model that is watched while it runs."""

from __future__ import annotations

from math import prod
from typing import Any

from torch import Tensor, nn

from saccade.graph.alphabet import Alphabet
from saccade.graph.records import Counts, NeuronRecord, OpRecord
from saccade.graph.watch import ROOT, Watcher, outside_levels, tensors_in


class Counter(Watcher):
    """Counts a model's forward passes into `records` (operations), `neurons` (spikes) and `states` (bits kept by others).

    Raises (from the model's call):
        NotImplementedError: an operation on floats that depends on the input and has no counting rule.
        ValueError: values outside the declared spike alphabet, or a neuron that was not given `[T, N, ...]`.
    """

    def __init__(self) -> None:
        self.records: dict[tuple[Any, ...], OpRecord] = {}
        self.neurons: dict[str, NeuronRecord] = {}
        self.states: dict[str, int] = {}
        self.kinds: dict[str, str] = {}  # layer path -> class name, in order of first work
        self._samples = 0
        self._step: dict[str, int] = {}
        self._since_neuron: list[OpRecord] = []
        super().__init__()

    def begin(self, x: Tensor, samples: int) -> None:
        """Begins a batch: `x` is analog input of `samples` samples."""
        self.start(x)
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

    def entered(self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        if not self.in_neuron and not self.levels(module) and path not in self.states:
            bits = _state_bits(module, tensors_in((args, kwargs)))
            if bits is not None:
                self.states[path] = bits
                self.kinds.setdefault(path or ROOT, type(module).__name__)
        return False

    def fired(
        self, path: str, module: nn.Module, levels: tuple[float, ...], arguments: list[Tensor], spikes: Tensor
    ) -> None:
        path, y = path or ROOT, spikes
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
    if spec is None or not arguments:
        return None
    return sum(prod(shape) * bits for shape, bits in spec(tuple(arguments[0].shape[2:])).values())
