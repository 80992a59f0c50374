"""Sums of branches with a factor for each: shortcuts, norms, constants."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from saccade.deploy.engine import Native
from saccade.deploy.lowering import Lowering, constant, lowers
from saccade.deploy.program import LARGEST, Stateless, Wire, together
from saccade.deploy.values import Affine, Integers, Term, on_axis, spread
from saccade.graph import Node, Value
from saccade.layers.norms import Norm, norm_of


@dataclass(frozen=True)
class Combine(Stateless):
    """``(sum factors[i] * (x_i >> before[i]) + offset) >> after``; what is dropped is rounded to the nearest."""

    name = "combine"
    offset: Integers
    factors: tuple[Integers, ...]
    before: tuple[int, ...]
    after: int = 0

    def made(self, *given: Wire) -> Wire:
        if not len(self.factors) == len(self.before) == len(given):
            raise ValueError("a factor and a shift for each of its wires")
        if not all(0 <= bits <= LARGEST for bits in (self.after, *self.before)):
            raise ValueError(f"shifts from 0 to {LARGEST}, got {self.before} and {self.after}")
        low, high = int(self.offset.min()), int(self.offset.max())
        for factor, wire, bits in zip(self.factors, given, self.before, strict=True):
            ends = [int(f) * _dropped(end, bits) for f in (factor.min(), factor.max()) for end in (wire.low, wire.high)]
            low, high = low + min(ends), high + max(ends)
            if max(-low, high) >= 1 << LARGEST:
                raise ValueError("its numbers need more than 62 bits; fewer bits of fraction do")
        shape = together(given, self.offset.shape, *(f.shape for f in self.factors))
        return Wire(shape, _dropped(low, self.after), _dropped(high, self.after))

    def compute(self, *given: Integers) -> Integers:
        terms = zip(self.factors, given, self.before, strict=True)
        total = self.offset + sum((factor * _dropped(x, bits) for factor, x, bits in terms), np.int64(0))
        return _dropped(total, self.after)

    def native(self) -> Native:
        return Native("combine", (*self.before, self.after), (self.offset, *self.factors))


def _dropped(x: Any, bits: int) -> Any:
    return (x + ((1 << bits) >> 1)) >> bits if bits else x


@lowers("add", "sub")
def add(low: Lowering, node: Node) -> Affine:
    sign = 1 if node.op == "add" else -1
    first, second = node.args[0], node.args[1]
    factor = sign * node.kwargs.get("alpha", 1)
    if not isinstance(first, Value) or not first.live:
        return _with_constant(low.of(second).times(factor), first, 1)
    if not isinstance(second, Value) or not second.live:
        return _with_constant(low.of(first), second, factor)
    return joined(low.of(first), low.of(second).times(factor))


def joined(a: Affine, b: Affine) -> Affine:
    """``a + b``; terms of the same wire become one."""
    if a.lead != b.lead:
        raise ValueError("its two inputs have their samples on different axes")
    shape = np.broadcast_shapes(a.shape, b.shape)
    merged: dict[int, Any] = {}
    for wire, scale in (*a.terms, *b.terms):
        scale = spread(scale, shape)
        merged[wire] = merged[wire] + scale if wire in merged else scale
    terms = tuple(Term(wire, scale) for wire, scale in merged.items())
    return Affine(terms, spread(a.offset, shape) + spread(b.offset, shape), shape, max(a.steps, b.steps), a.lead)


def _with_constant(value: Affine, other: Any, factor: float) -> Affine:
    number = constant(other) if isinstance(other, Value) else other
    return value.plus(spread(number, value.shape) * factor)


@lowers("rsub")
def rsub(low: Lowering, node: Node) -> Affine:
    return _with_constant(low.of(node.args[0]).times(-1 * node.kwargs.get("alpha", 1)), node.args[1], 1)


@lowers("neg")
def negative(low: Lowering, node: Node) -> Affine:
    return low.of(node.args[0]).times(-1)


@lowers("div")
def divide(low: Lowering, node: Node) -> Affine:
    value, by = low.of(node.args[0]), node.args[1]
    if node.kwargs.get("rounding_mode"):
        raise ValueError("a division that rounds cannot be lowered")
    number = constant(by) if isinstance(by, Value) else by
    return value.times(1 / spread(number, value.shape))


@lowers(Norm, nn.modules.batchnorm._BatchNorm)
def norm(low: Lowering, node: Node) -> Affine:
    assert node.module is not None
    found = norm_of(node.module)
    try:
        scale, offset = found.scale_and_offset()
    except ValueError as error:
        raise ValueError(f"{error}; only a norm that is a scale and an offset can be lowered") from None
    value = low.of(node.inputs[0])
    axis = value.axis(found.channel_axis, len(node.inputs[0].shape))
    scaled = value.times(on_axis(scale.numpy(), axis, value.shape))
    return scaled.plus(on_axis(offset.numpy(), axis, value.shape))


@lowers("clone", "detach", "alias", "lift_fresh", "_to_copy", "dropout", nn.Identity, nn.Dropout)
def same(low: Lowering, node: Node) -> Affine:
    if not node.output.dtype.is_floating_point:
        raise ValueError(f"a conversion to {node.output.dtype}, which rounds, cannot be lowered")
    return replace(low.of(node.inputs[0]))
