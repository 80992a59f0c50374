"""From a program to the parts of its C: buffers, tables, a function an operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from saccade.deploy.c.layout import (
    Strides,
    View,
    at,
    bytes_of,
    c_type,
    channels_last,
    narrow,
    nest,
    packed_strides,
    size_of,
    view_of,
)
from saccade.deploy.program import Operation, Program, Wire
from saccade.deploy.values import Integers, Shape

Rule = Callable[["Writer", Any], View]
_RULES: dict[type[Operation], Rule] = {}
MOST_STEPS = 1 << 16  # over which sums of logits are proven to fit
LOGIT_BITS = 32  # behind the point of a logit, at most


def writes_c(*kinds: type[Operation]) -> Callable[[Rule], Rule]:
    """Register how an operation is written in C: given the ``Writer`` and the operation, it returns where the wire lies."""

    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(kinds, rule))
        return rule

    return register


@dataclass(frozen=True)
class Buffer:
    """Memory of a wire."""

    kind: str
    count: int

    @property
    def bytes(self) -> int:
        return self.count * bytes_of(self.kind)


@dataclass(frozen=True)
class Table:
    """Constants of the network, in flash."""

    name: str
    kind: str
    values: npt.NDArray[Any]
    says: str

    @property
    def bytes(self) -> int:
        return self.values.size * bytes_of(self.kind)


@dataclass(frozen=True)
class State:
    """What is kept from step to step."""

    name: str
    kind: str
    count: int
    says: str

    @property
    def bytes(self) -> int:
        return self.count * bytes_of(self.kind)


@dataclass(frozen=True)
class Parameter:
    """A number or table of an operation as its body reads it: ``text`` with the index of the operand ``name`` put in."""

    name: str
    strides: Strides | None  # None: a literal
    text: str
    kind: str
    offset: str = ""

    def at(self, indices: dict[str, str]) -> str:
        if self.strides is None:
            return self.text
        index = indices[self.name]
        if self.offset:
            index = self.offset if index == "0" else f"{self.offset} + {index}"
        return f"{self.text}[{index}]"


@dataclass(frozen=True)
class Function:
    """An operation in C: reads and writes by the names of its arguments."""

    wire: int
    reads: tuple[tuple[str, int, int], ...]  # argument, buffer, numbers from step to step
    writes: int  # numbers from step to step
    state: str | None
    step: bool
    body: tuple[str, ...]
    says: str


@dataclass
class Writer:
    """C in the making. Rules ask it for the wires that they read, for memory, tables and states, and give it a body.

    steps: how many are run from rest at most; None: as many as come. stored: wires that are kept for all steps, because they
    are read when all steps of them have been computed. at_hand: a run is given all frames of a sequence.
    """

    program: Program
    steps: int | None
    stored: frozenset[int] = frozenset()
    at_hand: bool = False
    views: list[View] = field(default_factory=list)
    buffers: dict[int, Buffer] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    functions: list[Function] = field(default_factory=list)
    number: int = 0  # of the wire that is being made
    most: int | None = None  # steps from rest that all is proven for

    def __post_init__(self) -> None:
        first = self.program.wires[0]
        self.buffers[0] = Buffer(c_type(first.low, first.high), size_of(first.shape))
        size = size_of(first.shape) if self.at_hand and self.program.sequence else 0
        self.views.append(View(0, self.buffers[0].kind, first.shape, packed_strides(first.shape), 0, size))
        for number, operation in enumerate(self.program.operations, 1):
            self.number = number
            rule = _RULES.get(type(operation))
            if rule is None:
                raise ValueError(
                    f"wire {self.number}: how a {operation.name} is written in C is not known; a rule can be added "
                    "(saccade.deploy.c.writes_c)"
                )
            self.views.append(rule(self, operation))

    @property
    def wire(self) -> Wire:
        """Which is being made."""
        return self.program.wires[self.number]

    def limit(self, steps: int | None) -> None:
        """Say that what is written holds for so many steps from rest only."""
        if steps is not None:
            self.most = steps if self.most is None else min(steps, self.most)

    def reads(self, operation: Operation) -> list[View]:
        return [self.views[i] for i in operation.inputs]

    def ends(self, operation: Operation, which: int = 0) -> tuple[int, int]:
        """The proven range of an input."""
        wire = self.program.wires[operation.inputs[which]]
        return wire.low, wire.high

    def result(self, order: Sequence[int] | None = None) -> View:
        """Memory for the wire in the making, its axes in an order (default: channels last)."""
        wire, size = self.wire, size_of(self.wire.shape)
        times = self.program.T if self.number in self.stored else 1
        buffer = Buffer(c_type(wire.low, wire.high), size * times)
        self.buffers[self.number] = buffer
        order = channels_last(wire.shape) if order is None else order
        strides = packed_strides(wire.shape, order)
        return View(self.number, buffer.kind, wire.shape, strides, 0, size if times > 1 else 0)

    def result_like(self, views: Sequence[View]) -> View:
        """The same in the order of the first of some views that has all axes of the wire."""
        shape = self.wire.shape
        whole = next((view for view in views if view.shape == shape and size_of(shape) > 1), None)
        return self.result(whole.order if whole else None)

    def moved(self, operation: Operation) -> View | None:
        """The input of an operation that only moves numbers as another view of the same memory; None where it is none."""
        (x,) = self.reads(operation)
        places = operation.run(x.places()[None, None])[0, 0]
        return view_of(x, np.ascontiguousarray(places))

    def table(self, name: str, values: npt.NDArray[Any], says: str, kind: str | None = None) -> str:
        """Constants; the name by which bodies read them."""
        table = Table(f"w{self.number}_{name}", kind or narrow(values), np.ascontiguousarray(values), says)
        self.tables.append(table)
        return table.name

    def shared(self, name: str, values: npt.NDArray[Any], says: str) -> str:
        """Constants that several operations read."""
        if all(table.name != name for table in self.tables):
            self.tables.append(Table(name, narrow(values), values, says))
        return name

    def parameter(self, name: str, array: Integers, shape: Shape, says: str, offset: str = "") -> Parameter:
        """An array that is spread over ``shape``, stored as small as it is; one number becomes a literal.

        offset: an index in front, where the array has a first axis more.
        """
        lead = array.ndim - len(shape)
        if array.size == 1 and lead <= 0:
            return Parameter(name, None, literal(int(array.flat[0])), narrow(array))
        order = [*range(lead), *(lead + axis for axis in channels_last(shape))]
        inner = array.shape[lead:]
        strides = packed_strides(inner, channels_last(shape))
        strides = tuple(0 if size == 1 else stride for size, stride in zip(inner, strides, strict=True))
        kept = self.table(name, array.transpose(order), says)
        return Parameter(name, strides, kept, narrow(array), offset and f"{size_of(inner)} * {offset}")

    def state(self, kind: str, count: int, says: str) -> str:
        """Memory that is kept from step to step and begins at 0."""
        state = State(f"kept{self.number}", kind, count, says)
        self.buffers[-self.number] = Buffer(kind, count)
        self.states.append(state)
        return state.name

    def function(
        self, body: Sequence[str], reads: dict[str, View], says: str, state: str | None = None, step: bool = False
    ) -> None:
        """The operation: lines of C that read ``reads`` and write ``y``, and know its memory as ``kept`` and the number of the
        step as ``step`` if they ask."""
        made = tuple((name, view.buffer, view.by_step) for name, view in reads.items())
        writes = self.buffers[self.number].count // self.program.T if self.number in self.stored else 0
        self.functions.append(Function(self.number, made, writes, state, step, tuple(body), says))

    def over(
        self,
        y: View,
        reads: dict[str, View],
        parameters: Sequence[Parameter],
        body: Callable[[dict[str, str]], Sequence[str]],
        order: Sequence[int] | None = None,
        extra: dict[str, Strides] | None = None,
    ) -> list[str]:
        """Loops over the places of ``y``, whose body is given the index into each operand."""
        operands = {"y": y.strides, **{name: view.spread(y.shape).strides for name, view in reads.items()}}
        operands |= {p.name: p.strides for p in parameters if p.strides is not None} | (extra or {})
        loops = nest(y.shape, operands, order or y.order)
        for name, view in reads.items():
            loops.indices[name] = at(view.offset, loops.indices[name])
        return loops.around(body(loops.indices))


def literal(number: int) -> str:
    """A number in C99, whose type holds it."""
    if -(2**31) < number < 2**31:
        return str(number)
    if number == -(2**63):
        return "(-INT64_C(9223372036854775807) - 1)"
    return f"INT64_C({number})"


def cast(kind: str, text: str, of: str = "") -> str:
    """An expression, whose type is ``of``, as another type."""
    return text if kind == of else f"({kind})({text})"
