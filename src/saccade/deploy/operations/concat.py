"""Tensors one behind the other, with zeros before and behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from saccade.deploy.engine import Native
from saccade.deploy.lowering import Lowering, constant, lowers
from saccade.deploy.operations.movement import filled
from saccade.deploy.program import Stateless, Wire
from saccade.deploy.values import Affine, Integers, Reals, Term, shrunk
from saccade.graph import Node, Value


@dataclass(frozen=True)
class Concat(Stateless):
    """Its wires one behind the other along an axis, ``before`` zeros in front and ``after`` zeros behind them."""

    name = "concat"
    axis: int
    before: int = 0
    after: int = 0

    def made(self, *given: Wire) -> Wire:
        rest = {wire.shape[: self.axis] + wire.shape[self.axis + 1 :] for wire in given}
        if not 0 <= self.axis < len(given[0].shape) or len(rest) != 1 or min(self.before, self.after) < 0:
            raise ValueError(f"{[list(wire.shape) for wire in given]} one behind the other along axis {self.axis}")
        shape = list(given[0].shape)
        shape[self.axis] = self.before + sum(wire.shape[self.axis] for wire in given) + self.after
        ends = [0] if self.before or self.after else []
        low, high = min(*ends, *(w.low for w in given)), max(*ends, *(w.high for w in given))
        return Wire(tuple(shape), low, high)

    def compute(self, *given: Integers) -> Integers:
        steps = max(len(x) for x in given)
        parts = [np.broadcast_to(x, (steps, *x.shape[1:])) for x in given]
        whole = np.concatenate(parts, self.axis + 2)
        around = [(0, 0)] * whole.ndim
        around[self.axis + 2] = (self.before, self.after)
        return np.pad(whole, around) if self.before or self.after else whole

    def native(self) -> Native:
        return Native("concat", (self.axis, self.before))


def behind_each_other(low: Lowering, values: list[Affine], axis: int, before: int = 0, after: int = 0) -> Affine:
    """Values along an axis: exactly, if each is one term (whose scale may change along that axis)."""
    values = [value if len(value.terms) == 1 else low.whole(value) for value in values]
    first = values[0]
    if any(value.lead != first.lead or len(value.terms) != 1 for value in values):
        raise ValueError("its inputs have their samples on different axes")
    steps = max(value.steps for value in values)
    wires = tuple(filled(low, value.terms[0].wire, value.shape) for value in values)
    record = Concat(wires, axis, before, after)
    made = low.emit(record)
    shape = low.wires[made].shape

    def joined(parts: list[Reals], fill: float) -> Reals:
        whole = np.concatenate([np.broadcast_to(p, v.shape) for p, v in zip(parts, values, strict=True)], axis)
        around = [(0, 0)] * whole.ndim
        around[axis] = (before, after)
        return shrunk(np.pad(whole, around, constant_values=fill))

    scale = joined([value.terms[0].scale for value in values], float(values[0].terms[0].scale.flat[0]))
    offset = joined([value.offset for value in values], 0.0)
    return Affine((Term(made, scale),), offset, shape, steps, first.lead)


@lowers("cat")
def cat(low: Lowering, node: Node) -> Affine:
    parts = node.args[0]
    if not all(isinstance(part, Value) and part.live for part in parts):
        raise ValueError("constants behind or before what depends on the input: pad with zeros instead")
    values = [low.of(part) for part in parts]
    axis = values[0].axis(node.argument(1, "dim", 0), len(parts[0].shape))
    return behind_each_other(low, values, axis)


@lowers("constant_pad_nd")
def pad(low: Lowering, node: Node) -> Affine:
    value, dims = low.of(node.inputs[0]), len(node.inputs[0].shape)
    number: Any = node.argument(2, "value", 0)
    if (constant(number) if isinstance(number, Value) else number) != 0:
        raise ValueError("padding with another number than 0 cannot be lowered")
    around = list(node.argument(1, "pad"))
    for i in range(0, len(around), 2):
        before, after = around[i], around[i + 1]
        if before or after:
            value = behind_each_other(low, [value], value.axis(dims - 1 - i // 2, dims), before, after)
    return value
