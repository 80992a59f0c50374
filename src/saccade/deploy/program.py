"""An integer program: wires of whole numbers, and the operations between them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from saccade.config import Registry
from saccade.deploy import engine as native
from saccade.deploy.values import LARGEST_WIRE, Integers, Reals, Shape, Term

OPERATIONS: Registry[type[Operation]] = Registry("operation of a program")
LARGEST = 62  # bits of a number in a program, without its sign
_NOTHING: Integers = np.empty(0, np.int64)


@dataclass(frozen=True)
class Wire:
    """A tensor of whole numbers: ``shape`` of a step of a sample; every value is proven to lie in ``low .. high``.

    path: of the neuron in the model whose levels these are; "" for what lies between.
    """

    shape: Shape
    low: int
    high: int
    path: str = ""

    def named(self, path: str = "") -> Wire:
        """The same under another path."""
        return replace(self, path=path)

    def checked(self) -> Wire:
        """Itself. Raises ValueError for what no machine holds, or needs more than 62 bits."""
        if any(type(number) is not int for number in (*self.shape, self.low, self.high)):
            raise ValueError(f"sizes and ranges are whole numbers, got {self.shape}, {self.low} to {self.high}")
        if min(self.shape, default=1) < 1 or self.low > self.high or math.prod(self.shape) > LARGEST_WIRE:
            raise ValueError(f"a wire {list(self.shape)} of {self.low} to {self.high}")
        if max(-self.low, self.high).bit_length() > LARGEST:
            raise ValueError(f"its numbers need more than {LARGEST} bits; fewer weight_bits or bits of fraction do")
        return self


@dataclass(frozen=True)
class Operation:
    """Base of the records. It reads the wires ``inputs`` and makes the wire of its number.

    Arrays are int64 ``[T, N, ...]``; what is the same in all steps has T = 1. Arrays among the fields go into a file as they
    are, the rest as JSON.
    """

    name: ClassVar[str] = ""
    mixes_time: ClassVar[bool] = False
    inputs: tuple[int, ...]

    def __init_subclass__(cls) -> None:
        if "name" in vars(cls):
            OPERATIONS.register(cls.name, cls)

    def made(self, *given: Wire) -> Wire:
        """The wire that it makes of those that it reads: its shape, and between which numbers all values lie.

        Raises ValueError where its fields do not fit them, or numbers on the way may need more than 62 bits.
        """
        raise NotImplementedError

    def changes(self, *given: bool) -> bool:
        """Whether what it makes differs from step to step, where what it reads does (True) or not."""
        return self.mixes_time or any(given)

    def run(self, *given: Integers) -> Integers:
        """All steps of a sequence, from rest."""
        return self.step(None, *given)[0]

    def step(self, state: Any, *given: Integers) -> tuple[Integers, Any]:
        """Further steps, and what is kept for those after them; state None: rest."""
        raise NotImplementedError

    def native(self) -> native.Native:
        """How the engine is given it. Raises ValueError where the engine has no form of it."""
        raise ValueError(f"the native engine has no form of the operation {self.name}")

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), np.ndarray)}

    def settings(self) -> dict[str, Any]:
        return {
            f.name: getattr(self, f.name) for f in fields(self) if not isinstance(getattr(self, f.name), np.ndarray)
        }


class Stateless(Operation):
    """An operation on each step by itself."""

    def compute(self, *given: Integers) -> Integers:
        raise NotImplementedError

    def step(self, state: Any, *given: Integers) -> tuple[Integers, Any]:
        return self.compute(*given), None


def together(wires: Sequence[Wire], *arrays: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what is made place by place of wires and of arrays with these shapes, axes of size 1 repeated.

    Raises ValueError where they do not fit, and for axes that would meet the samples: wires of different numbers of axes, an
    array of more.
    """
    axes = len(wires[0].shape)
    if any(len(wire.shape) != axes for wire in wires) or any(len(shape) > axes for shape in arrays):
        shapes = ", ".join(str(list(shape)) for shape in (*(wire.shape for wire in wires), *arrays))
        raise ValueError(f"its wires and numbers have different axes: {shapes}")
    return np.broadcast_shapes(*(wire.shape for wire in wires), *arrays)


@dataclass(frozen=True, repr=False)
class Program:
    """``run`` gives the model's logits; between there are whole numbers alone.

    wires: the input, then what each operation makes, in order. T: steps that a static input is shown for. unit: the value in
    the model of a 1 of the input (1/255 for pixels). outputs, offset: the logits, ``sum scale * wire + offset``. last: the
    answer is that of the last step, else the mean over steps. sequence: made for an input that changes, not a still picture.
    notes: what was rounded. classes: names of the answers, where they are known.
    """

    T: int
    unit: float
    wires: tuple[Wire, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[Term, ...]
    offset: Reals
    last: bool = False
    sequence: bool = False
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    plans: native.Plans = field(default_factory=native.Plans, init=False, repr=False, compare=False)

    def __repr__(self) -> str:
        first, kind = self.wires[0], "sequences" if self.sequence else f"still pictures, T = {self.T}"
        ends = f"{list(first.shape)} of {first.low} to {first.high} to {list(native.answer_shape(self))}"
        return f"<Program for {kind}: {len(self.operations)} operations from {ends}>"

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Program:
        """A program from its file (``.sacc``). Raises ValueError in one line for anything that is none."""
        from saccade.deploy.files import load_program

        return load_program(path)

    def run(self, x: npt.NDArray[Any], *, engine: str = "auto", threads: int | None = None) -> Reals:
        """Logits ``[N, ...]`` of whole numbers: still pictures ``[N, C, H, W]``, shown for T steps, or sequences ``[T, N, C, H,
        W]``, whichever it was made for.

        engine: "native", "numpy" (the interpreter, which defines the result), or "auto": native where it can run the program.
        threads: of the native engine; by default as many as torch has. Raises ValueError for another shape, numbers that are
        not whole, or an engine that is asked for and not there.
        """
        found = native.run(self, x, engine, threads)
        return self.answer(self.trace(x)) if found is None else found

    def answer(self, found: list[Integers]) -> Reals:
        """The logits from the wires."""
        steps = self.logits(found)
        return steps[-1].copy() if self.last else steps.mean(0)

    def logits(self, found: list[Integers]) -> Reals:
        """Of each step, ``[T, N, ...]``."""
        total = sum((term.scale * found[term.wire] for term in self.outputs), np.zeros(()))
        steps = total + self.offset
        return np.broadcast_to(steps, (max(len(w) for w in found), *steps.shape[1:]))

    def trace(self, x: npt.NDArray[Any]) -> list[Integers]:
        """All wires: int64 ``[T or 1, N, ...]`` each. Raises ValueError for another shape, or numbers that are not whole."""
        return self._run({0: self.taken(x)})

    def trace_from(self, wire: int, values: Integers) -> list[Integers]:
        """All wires that need nothing but one of them, whose values are given; empty arrays for the others."""
        return self._run({wire: values})

    def _run(self, given: dict[int, Integers]) -> list[Integers]:
        found = [given.get(0, _NOTHING)]
        for number, operation in enumerate(self.operations, 1):
            reads = [found[i] for i in operation.inputs]
            known = number in given or any(value is _NOTHING for value in reads)
            found.append(given.get(number, _NOTHING) if known else operation.run(*reads))
        return found

    def timed(self) -> list[bool]:
        """Of each wire, whether it changes from step to step."""
        found = [self.sequence]
        for operation in self.operations:
            found.append(operation.changes(*(found[i] for i in operation.inputs)))
        return found

    def spikes(self, x: npt.NDArray[Any]) -> dict[str, Integers]:
        """The levels of every neuron by its path in the model, ``[T, N, ...]``."""
        found = self.trace(x)
        T = len(x) if self.sequence else self.T
        named = {wire.path: value for wire, value in zip(self.wires, found, strict=True) if wire.path}
        return {path: np.broadcast_to(value, (T, *value.shape[1:])) for path, value in named.items()}

    def taken(self, x: npt.NDArray[Any]) -> Integers:
        """The input as a wire, checked."""
        wire = self.wires[0]
        dims = len(wire.shape) + (2 if self.sequence else 1)
        if x.ndim != dims or x.shape[-len(wire.shape) :] != wire.shape:
            sizes = ", ".join(map(str, wire.shape))
            takes = f"[T, N, {sizes}]: it was made for sequences" if self.sequence else f"[N, {sizes}], still pictures"
            raise ValueError(f"the program takes {takes}; got {list(x.shape)}")
        inside = (x >= wire.low) & (x <= wire.high)
        whole = np.where(inside, x, 0).astype(np.int64)
        if not inside.all() or not np.array_equal(whole, x):
            raise ValueError(
                f"the program takes whole numbers from {wire.low} to {wire.high}; pixels are not divided by 255"
            )
        return whole if self.sequence else whole[None]

    def stream(self, *, engine: str = "auto") -> Stream | native.Stream:
        """A run that is given its steps in pieces. Raises ValueError for a program made for still pictures, or an engine
        that is asked for and not there."""
        if not self.sequence:
            raise ValueError("the program was made for still pictures; lower the model on a sequence [T, N, C, H, W]")
        runner = native.planned(self, engine, 1, streams=True)
        return Stream(self) if runner is None else native.Stream(self, runner)

    def named(self) -> Iterator[tuple[int, Wire]]:
        """Wires of neurons."""
        return ((i, wire) for i, wire in enumerate(self.wires) if wire.path)


class Stream:
    """A program over a sequence given in pieces ``[t, N, ...]``: the steps' logits, and what is kept between."""

    def __init__(self, program: Program) -> None:
        self.program, self.states = program, [None] * len(program.operations)

    def __call__(self, x: npt.NDArray[Any]) -> Reals:
        """Logits ``[t, N, ...]`` of the next steps ``[t, N, C, H, W]``. Raises ValueError for what cannot be streamed."""
        found = [self.program.taken(x)]
        states: list[Any] = []
        for operation, state in zip(self.program.operations, self.states, strict=True):
            value, state = operation.step(state, *(found[i] for i in operation.inputs))
            found.append(value)
            states.append(state)
        self.states = states
        return self.program.logits(found)
