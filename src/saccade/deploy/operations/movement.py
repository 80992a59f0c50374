"""What moves numbers and leaves them as they are: other shapes, axes in other orders, parts, borders."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from saccade.deploy.engine import Native
from saccade.deploy.lowering import Lowering, lowers
from saccade.deploy.program import Operation, Stateless, Wire
from saccade.deploy.values import Affine, Integers, Shape, Term, on_axis, shrunk, spread
from saccade.graph import Node
from saccade.layers.repconv import BorderPad


@dataclass(frozen=True)
class Reshape(Stateless):
    """A step of a sample in another shape, row by row."""

    name = "reshape"
    shape: Shape

    def made(self, *given: Wire) -> Wire:
        if math.prod(self.shape) != math.prod(given[0].shape):
            raise ValueError(f"{list(given[0].shape)} as {list(self.shape)}")
        return replace(given[0], shape=self.shape)

    def compute(self, *given: Integers) -> Integers:
        return given[0].reshape(*given[0].shape[:2], *self.shape)

    def native(self) -> Native:
        return Native("reshape")


@dataclass(frozen=True)
class Transpose(Stateless):
    """Axes of a step of a sample in the order ``axes``."""

    name = "transpose"
    axes: tuple[int, ...]

    def made(self, *given: Wire) -> Wire:
        if sorted(self.axes) != list(range(len(given[0].shape))):
            raise ValueError(f"axes {list(self.axes)} of {list(given[0].shape)}")
        return replace(given[0], shape=tuple(given[0].shape[axis] for axis in self.axes))

    def compute(self, *given: Integers) -> Integers:
        return given[0].transpose(0, 1, *(axis + 2 for axis in self.axes))

    def native(self) -> Native:
        return Native("transpose", self.axes)


@dataclass(frozen=True)
class Expand(Stateless):
    """Axes of size 1 repeated."""

    name = "expand"
    shape: Shape

    def made(self, *given: Wire) -> Wire:
        if len(self.shape) != len(given[0].shape) or np.broadcast_shapes(given[0].shape, self.shape) != self.shape:
            raise ValueError(f"{list(given[0].shape)} repeated to {list(self.shape)}")
        return replace(given[0], shape=self.shape)

    def compute(self, *given: Integers) -> Integers:
        return np.broadcast_to(given[0], (*given[0].shape[:2], *self.shape))

    def native(self) -> Native:
        return Native("expand")


@dataclass(frozen=True)
class Part(Stateless):
    """``start .. stop`` of an axis, every ``stride``-th."""

    name = "part"
    axis: int
    start: int
    stop: int
    stride: int = 1

    def made(self, *given: Wire) -> Wire:
        shape = list(given[0].shape)
        if self.axis < 0 or self.stride < 1 or not 0 <= self.start < self.stop <= shape[self.axis]:
            raise ValueError(f"{self.start} to {self.stop} by {self.stride} of axis {self.axis} of {shape}")
        shape[self.axis] = len(range(self.start, self.stop, self.stride))
        return replace(given[0], shape=tuple(shape))

    def compute(self, *given: Integers) -> Integers:
        where = [slice(None)] * (self.axis + 2) + [slice(self.start, self.stop, self.stride)]
        return given[0][tuple(where)]

    def native(self) -> Native:
        return Native("part", (self.axis, self.start, self.stop, self.stride))


@dataclass(frozen=True)
class Pad(Stateless):
    """Zeros around the last two axes, ``places`` on each side."""

    name = "pad"
    places: int

    def made(self, *given: Wire) -> Wire:
        *rest, height, width = given[0].shape
        if self.places < 0:
            raise ValueError(f"{self.places} places around a map")
        shape = (*rest, height + 2 * self.places, width + 2 * self.places)
        return replace(given[0], shape=shape, low=min(given[0].low, 0), high=max(given[0].high, 0))

    def compute(self, *given: Integers) -> Integers:
        p = self.places
        return np.pad(given[0], [(0, 0)] * (given[0].ndim - 2) + [(p, p), (p, p)])

    def native(self) -> Native:
        return Native("pad", (self.places,))


def moved(low: Lowering, value: Affine, operation: Callable[[int], Operation], lead: int) -> Affine:
    """A value of which every wire, and every scale and offset, goes through an operation that moves numbers."""
    terms = []
    for wire, scale in value.terms:
        full = filled(low, wire, value.shape)
        record = operation(full)
        new = _apply(record, np.broadcast_to(scale, value.shape))
        terms.append(Term(_emit(low, record, full), shrunk(new)))
    offset = _apply(operation(0), np.broadcast_to(value.offset, value.shape))
    return Affine(tuple(terms), shrunk(offset), offset.shape, value.steps, lead)


def filled(low: Lowering, wire: int, shape: Shape) -> int:
    """The wire with all its axes as large as ``shape`` says."""
    if low.wires[wire].shape == shape:
        return wire
    return low.emit(Expand((wire,), shape))


def _apply(record: Operation, array: Any) -> Any:
    return record.run(array[None, None])[0, 0]


def _emit(low: Lowering, record: Operation, wire: int) -> int:
    if isinstance(record, Reshape):
        if low.wires[wire].shape == record.shape:
            return wire
        made_by = low.operations[wire - 1] if wire else None
        if isinstance(made_by, Reshape):  # one reshape after the other is one
            return _emit(low, replace(record, inputs=made_by.inputs), made_by.inputs[0])
    return low.emit(record)


@lowers("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten", "unsqueeze", "squeeze")
def reshape(low: Lowering, node: Node) -> Affine:
    value, shape = low.of(node.inputs[0]), node.output.shape
    size, samples = math.prod(value.shape), low.samples
    if len(shape) > 1 and shape[:2] == (value.steps, samples) and math.prod(shape[2:]) == size:
        lead, inner = 2, tuple(shape[2:])
    elif shape and shape[0] == value.steps * samples and math.prod(shape[1:]) == size:
        lead, inner = 1, tuple(shape[1:])
    elif shape and shape[0] % (value.steps * samples) == 0 and value.steps * samples * size == math.prod(shape):
        lead, inner = 0, (shape[0] // (value.steps * samples), *shape[1:])
    else:
        raise ValueError(
            f"{node}: time and samples are mixed with other axes, {list(node.inputs[0].shape)} to {list(shape)}"
        )
    if inner == value.shape:
        return replace(value, lead=lead)
    return moved(low, value, lambda wire: Reshape((wire,), inner), lead)


@lowers("expand")
def expand(low: Lowering, node: Node) -> Affine:
    value, shape = low.of(node.inputs[0]), node.output.shape
    if value.lead == 2:
        if len(shape) != len(value.shape) + 2 or shape[1] != low.samples:
            raise ValueError(f"{node}: it repeats samples")
        inner = tuple(shape[2:])
        spreads = tuple(Term(wire, spread(scale, inner)) for wire, scale in value.terms)
        return Affine(spreads, spread(value.offset, inner), inner, shape[0], 2)
    if shape == node.inputs[0].shape:
        return replace(value)
    if value.lead == 1 and len(shape) == len(value.shape) + 2 and shape[1:] == node.inputs[0].shape:
        return replace(value, steps=shape[0], lead=2)  # one step, shown for several
    raise ValueError(f"{node}: it repeats samples or time")


@lowers("transpose", "permute", "t")
def transpose(low: Lowering, node: Node) -> Affine:
    value, dims = low.of(node.inputs[0]), len(node.inputs[0].shape)
    if node.op == "permute":
        order = [axis % dims for axis in node.args[1]]
    else:
        a, b = (0, 1) if node.op == "t" else (node.args[1] % dims, node.args[2] % dims)
        order = list(range(dims))
        order[a], order[b] = b, a
    lead = value.lead or 1
    if order[:lead] != list(range(lead)):
        raise ValueError(f"{node}: it moves the axes of time or samples")
    first = (0,) if value.lead == 0 else ()
    axes = (*first, *(value.axis(axis, dims) for axis in order[lead:]))
    return moved(low, value, lambda wire: Transpose((wire,), axes), value.lead)


def _cut(low: Lowering, value: Affine, axis: int, start: int, stop: int, stride: int = 1) -> Affine:
    return moved(low, value, lambda wire: Part((wire,), axis, start, stop, stride), value.lead)


@lowers("slice", "select")
def part(low: Lowering, node: Node) -> Affine:
    value, dims = low.of(node.inputs[0]), len(node.inputs[0].shape)
    axis = value.axis(node.argument(1, "dim", 0), dims)
    size = value.shape[axis]
    if node.op == "select":
        at = node.argument(2, "index") % size
        found = _cut(low, value, axis, at, at + 1)
        inner = found.shape[:axis] + found.shape[axis + 1 :]
        return moved(low, found, lambda wire: Reshape((wire,), inner), found.lead)
    start, stop, _ = slice(node.argument(2, "start"), node.argument(3, "end")).indices(size)
    stride = node.argument(4, "step", 1)
    if (start, stop, stride) == (0, size, 1):
        return replace(value)
    return _cut(low, value, axis, start, stop, stride)


@lowers("split", "split_with_sizes", "chunk")
def split(low: Lowering, node: Node) -> list[Affine]:
    value, dims = low.of(node.inputs[0]), len(node.inputs[0].shape)
    axis = value.axis(node.argument(2, "dim", 0), dims)
    found, start = [], 0
    for output in node.outputs:
        stop = start + output.shape[node.argument(2, "dim", 0) % dims]
        found.append(_cut(low, value, axis, start, stop))
        start = stop
    return found


@lowers(BorderPad)
def border(low: Lowering, node: Node) -> Affine:
    module: Any = node.module
    owner = node.args[1]
    value = low.of(node.inputs[0])
    found = moved(low, value, lambda wire: Pad((wire,), 1), value.lead)
    inner = np.zeros(found.shape[1:])
    inner[1:-1, 1:-1] = 1
    outside = on_axis(owner.border().double().numpy(), 0, found.shape) * (1 - inner)
    assert module is not None
    return found.plus(outside)
