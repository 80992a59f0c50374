"""From a trained network to an integer program, read off its graph."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saccade.deploy.program import LARGEST, Operation, Program, Wire
from saccade.deploy.values import Affine, Reals, Shape, Term, spread
from saccade.graph import Node, Value, is_layer, trace

Rule = Callable[["Lowering", Node], "Affine | Sequence[Affine]"]
_RULES: dict[type | str, Rule] = {}
NUMBER_BITS = 32  # of a number that is multiplied to be added to others
SAMPLES = (5, 7)  # of the trace: numbers that axes do not have by accident


def lowers(*kinds: type | str) -> Callable[[Rule], Rule]:
    """Register a rule: from a node of the graph, a call of a module of a type (or one made from it) or an operation by name,
    to what becomes of its output. It raises ValueError, saying what to do, for what it cannot lower."""

    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(kinds, rule))
        return rule

    return register


def rule_for(node: Node) -> Rule | None:
    """The rule of a node: of its module's type or nearest base type, or of its operation."""
    kinds: tuple[type | str, ...] = (node.op,) if node.module is None else type(node.module).__mro__
    return next((_RULES[kind] for kind in kinds if kind in _RULES), None)


def lower(
    model: nn.Module,
    x: Tensor,
    *,
    fraction: int = 24,
    weight_bits: int = 24,
    unit: float = 1 / 255,
    classes: Sequence[str] = (),
) -> Program:
    """A trained network as an integer program with the same spikes.

    x: a sample input, ``[N, C, H, W]`` or ``[T, N, C, H, W]``; it tells sizes and the order of the layers. unit: the value of
    a 1 of the program's input, which is whole: pixels are 0 to 255, for counts of events give 1. Spikes and levels, products
    of them, and layers with quantized weights between them are exact. What is not a multiple of a common number gets a fixed
    point: weights without a form (``weight_bits``, one scale an output), and potentials that several branches or a leak make
    (``fraction`` bits behind the point). ``compare`` counts the spikes that differ from the model in float64. classes: names of
    the answers, kept with the program.

    Raises ValueError naming what stands in the way and what to do about it. The model is left as it is.
    """
    import saccade.deploy.operations as operations
    from saccade.plugins import load_files_of

    load_files_of(operations.__name__)
    if model.training:
        raise ValueError(
            "a network is lowered as it runs: call model.eval() first (batch statistics cannot be lowered)"
        )
    if not 1 <= fraction <= 40 or not 2 <= weight_bits <= 32:
        raise ValueError(f"fraction must be 1 to 40 bits and weight_bits 2 to 32, got {fraction} and {weight_bits}")
    own = copy.deepcopy(model).double().eval()
    sequence = x.dim() == 5
    samples = next(count for count in SAMPLES if count != len(x) or not sequence)
    one = x[:, :1] if sequence else x[:1]
    given = one.double().repeat_interleave(samples, 1 if sequence else 0)
    steps = getattr(type(own), "gives_steps", False)
    call = (lambda m, given: m(given, steps=True)) if steps else None
    graph = trace(own, given, sequence=sequence, call=call, layers=lambda m: is_layer(m) or type(m) in _RULES)
    lowering = Lowering(samples, fraction, weight_bits)
    shape = tuple(given.shape[2 if sequence else 1 :])
    picture = lowering.begin(shape, unit, len(given) if sequence else 1, 2 if sequence else 1)
    lowering.values[graph.inputs[0]] = picture
    for node in graph.nodes:
        lowering.visit(node)
    if len(graph.outputs) != 1:
        raise ValueError(f"{type(model).__name__} gives {len(graph.outputs)} tensors; a program has one answer")
    answer = lowering.values[graph.outputs[0]]
    wires, kept, outputs = _needed(lowering.wires, lowering.operations, answer.terms)
    return Program(
        T=graph.outputs[0].shape[0] if steps else getattr(model, "T", len(x) if sequence else 1),
        unit=unit,
        wires=wires,
        operations=kept,
        outputs=outputs,
        offset=answer.offset,
        last=getattr(model, "readout", "") == "last",
        sequence=sequence,
        notes=tuple(lowering.notes),
        classes=tuple(classes),
    )


def _needed(
    wires: Sequence[Wire], operations: Sequence[Operation], outputs: Sequence[Term]
) -> tuple[tuple[Wire, ...], tuple[Operation, ...], tuple[Term, ...]]:
    """Without what neither the answer nor a neuron needs; wires are numbered again."""
    needed = {0, *(term.wire for term in outputs), *(i for i, wire in enumerate(wires) if wire.path)}
    for i in range(len(operations), 0, -1):
        if i in needed:
            needed.update(operations[i - 1].inputs)
    number = {old: new for new, old in enumerate(sorted(needed))}
    kept = tuple(
        replace(operation, inputs=tuple(number[wire] for wire in operation.inputs))
        for i, operation in enumerate(operations, 1)
        if i in needed
    )
    return tuple(wires[i] for i in number), kept, tuple(Term(number[wire], scale) for wire, scale in outputs)


class Lowering:
    """A program in the making: what each value of the graph is, and the operations so far."""

    def __init__(self, samples: int, fraction: int, weight_bits: int) -> None:
        self.samples, self.fraction, self.weight_bits = samples, fraction, weight_bits
        self.wires: list[Wire] = []
        self.operations: list[Operation] = []
        self.values: dict[Value, Affine] = {}
        self.notes: list[str] = []
        self.timed: list[bool] = []  # of each wire: whether it changes from step to step
        self._made: dict[Any, int] = {}

    def begin(self, shape: Shape, unit: float, steps: int, lead: int) -> Affine:
        self.wires.append(Wire(shape, 0, 255))
        self.timed.append(lead == 2)
        return Affine((Term(0, spread(unit, shape)),), spread(0, shape), shape, steps, lead)

    def visit(self, node: Node) -> None:
        """Lower one node, where anything that it reads depends on the input."""
        if not any(value.live for value in node.inputs):
            return
        rule = rule_for(node)
        if rule is None:
            what = type(node.module).__name__ if node.module is not None else node.op
            raise ValueError(
                f"{node.path or node}: a {what} cannot be lowered; a rule can be added (saccade.deploy.lowers)"
            )
        try:
            made = rule(self, node)
        except ValueError as error:
            where = node.path or str(node)
            raise ValueError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None
        for value, found in zip(node.outputs, [made] if isinstance(made, Affine) else made, strict=False):
            self.values[value] = found

    def emit(self, operation: Operation, path: str = "") -> int:
        """Add an operation, of neurons under their path; the number of its wire. Raises ValueError for numbers that need more
        than 62 bits."""
        self.wires.append(operation.made(*(self.wires[i] for i in operation.inputs)).named(path).checked())
        self.operations.append(operation)
        self.timed.append(operation.changes(*(self.timed[i] for i in operation.inputs)))
        return len(self.wires) - 1

    def of(self, value: Value) -> Affine:
        """What an input of a node is."""
        if value not in self.values:
            raise ValueError("it reads something that was not lowered")
        return self.values[value]

    # What is made of values, exactly where that is possible

    def whole(self, value: Affine) -> Affine:
        """The same as one term of one scale: exact if all of it are multiples of one number, else with a fixed point."""
        term = value.single
        if term is not None and term.scale.size == 1:
            return value
        unit = _common_unit(value)
        return self.fixed(value) if unit is None else self._combined(value, unit, exact=True)

    def fixed(self, value: Affine, fraction: int | None = None) -> Affine:
        """The same as one term in units of ``2**-fraction``, where none is given those of the program."""
        unit = 2.0 ** -(self.fraction if fraction is None else fraction)
        term = value.single
        if term is not None and (term.scale == unit).all():
            return value
        return self._combined(value, unit, exact=False)

    def _combined(self, value: Affine, unit: float, exact: bool) -> Affine:
        from saccade.deploy.operations.combine import Combine

        ends = self._ends(value, unit)
        # of wires with many bits the lowest are dropped, so that factors have as many as the numbers that they multiply
        before = tuple(0 if exact else max(0, self.bits(term.wire) - NUMBER_BITS) for term in value.terms)
        after = 0 if exact else LARGEST - 2 - bits_of(*ends)
        if after < 0:
            raise ValueError("its numbers need more than 62 bits; fewer bits of fraction do")
        scales = tuple(
            np.rint(np.ldexp(term.scale / unit, after + bits)).astype(np.int64)
            for term, bits in zip(value.terms, before, strict=True)
        )
        offset = np.rint(np.ldexp(value.offset / unit, after)).astype(np.int64)
        key = (tuple(term.wire for term in value.terms), unit, *(s.tobytes() for s in (*scales, offset)))
        if key not in self._made:
            operation = Combine(tuple(term.wire for term in value.terms), offset, scales, before, after)
            self._made[key] = self.emit(operation)
        one = Term(self._made[key], spread(unit, value.shape))
        return replace(value, terms=(one,), offset=spread(0, value.shape))

    def _ends(self, value: Affine, unit: float) -> tuple[int, int]:
        """Between which whole numbers ``value / unit`` lies, and one more on each side for rounding."""
        low, high = float(value.offset.min()), float(value.offset.max())
        for term in value.terms:
            ends = [float(s) * w for s in (term.scale.min(), term.scale.max()) for w in self._range(term.wire)]
            low, high = low + min(*ends, 0.0), high + max(*ends, 0.0)
        return math.floor(low / unit) - 1, math.ceil(high / unit) + 1

    def bits(self, wire: int) -> int:
        """That hold all numbers of a wire."""
        return bits_of(*self._range(wire))

    def _range(self, wire: int) -> tuple[int, int]:
        return self.wires[wire].low, self.wires[wire].high


def _common_unit(value: Affine) -> float | None:
    """The number that all scales and offsets are multiples of; None if there is none (to 1e-9 of it)."""
    numbers = np.concatenate([array.ravel() for array in (*(t.scale for t in value.terms), value.offset)])
    numbers = np.abs(numbers[numbers != 0])
    if not numbers.size:
        return 1.0
    unit = float(numbers.min())
    ratios = numbers / unit
    return unit if ratios.max() < 1 << 20 and np.allclose(ratios, np.rint(ratios), rtol=0, atol=1e-9) else None


def constant(value: Value) -> Reals:
    """A value that does not depend on the input. Raises ValueError for what cannot be computed beforehand."""
    if value.tensor is not None:
        return value.tensor.detach().double().cpu().numpy()
    node = value.producer
    if node is None or value.live:
        raise ValueError("a number that depends on the input stands here")
    function = getattr(torch, node.op, None) or getattr(Tensor, node.op, None)
    if function is None:
        raise ValueError(f"a constant made by {node.op} is not known")

    def given(argument: Any) -> Any:
        return torch.as_tensor(constant(argument)) if isinstance(argument, Value) else argument

    made = function(*map(given, node.args), **{key: given(item) for key, item in node.kwargs.items()})
    return np.asarray(made, dtype=np.float64)


def bits_of(low: int, high: int) -> int:
    """Bits that hold all numbers of a range, with a sign where any is below zero."""
    return max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0) + (low < 0)
