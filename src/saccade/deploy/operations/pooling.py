"""Sums over places and windows, and maxima of windows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from saccade.deploy.engine import Native
from saccade.deploy.lowering import Lowering, lowers
from saccade.deploy.operations.movement import Reshape, filled, moved
from saccade.deploy.program import Stateless, Wire
from saccade.deploy.values import Affine, Integers, Term, shrunk, spread, windows
from saccade.graph import Node


@dataclass(frozen=True)
class Sum(Stateless):
    """Sums over axes of a step of a sample, which stay with size 1."""

    name = "sum"
    axes: tuple[int, ...]

    def made(self, *given: Wire) -> Wire:
        before = given[0]
        if any(not 0 <= axis < len(before.shape) for axis in self.axes) or len(set(self.axes)) != len(self.axes):
            raise ValueError(f"axes {list(self.axes)} of {list(before.shape)}")
        count = math.prod(before.shape[axis] for axis in self.axes)
        shape = tuple(1 if i in self.axes else size for i, size in enumerate(before.shape))
        return Wire(shape, before.low * count, before.high * count)

    def compute(self, *given: Integers) -> Integers:
        total: Integers = given[0].sum(tuple(axis + 2 for axis in self.axes), keepdims=True)
        return total

    def native(self) -> Native:
        return Native("sum", self.axes)


@dataclass(frozen=True)
class Window(Stateless):
    """Sums ("sum") or maxima ("max") of windows of the last two axes; borders hold ``fill``."""

    name = "window"
    kind: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    fill: int = 0

    def made(self, *given: Wire) -> Wire:
        before = given[0]
        if self.kind not in ("sum", "max"):
            raise ValueError(f"windows of kind {self.kind!r}; known: sum, max")
        sides = windows(before.shape, self.kernel, self.stride, self.padding)
        low, high = before.low, before.high
        if any(self.padding):
            low, high = min(low, self.fill), max(high, self.fill)
        size = math.prod(self.kernel) if self.kind == "sum" else 1
        return Wire((*before.shape[:-2], *sides), low * size, high * size)

    def compute(self, *given: Any) -> Any:
        (py, px), (sy, sx) = self.padding, self.stride
        edges = [(0, 0)] * (given[0].ndim - 2) + [(py, py), (px, px)]
        x = np.pad(given[0], edges, constant_values=self.fill) if py or px else given[0]
        seen = np.lib.stride_tricks.sliding_window_view(x, self.kernel, axis=(-2, -1))[..., ::sy, ::sx, :, :]
        return seen.sum((-2, -1)) if self.kind == "sum" else seen.max((-2, -1))

    def native(self) -> Native:
        return Native("window", (int(self.kind == "max"), *self.kernel, *self.stride, *self.padding, self.fill))


@lowers("mean", "sum")
def over_axes(low: Lowering, node: Node) -> Affine:
    value, dims = low.of(node.inputs[0]), len(node.inputs[0].shape)
    given = node.argument(1, "dim")
    axes = tuple(sorted(value.axis(axis, dims) for axis in (given if isinstance(given, list | tuple) else [given])))
    found = summed(low, value, axes, mean=node.op == "mean")
    if node.argument(2, "keepdim", False):
        return found
    inner = tuple(size for i, size in enumerate(found.shape) if i not in axes)
    return moved(low, found, lambda wire: Reshape((wire,), inner), value.lead)


def summed(low: Lowering, value: Affine, axes: tuple[int, ...], mean: bool) -> Affine:
    """Sums or means over axes, which stay with size 1."""
    count = math.prod(value.shape[axis] for axis in axes)
    if any(term.scale.shape[axis] > 1 for term in value.terms for axis in axes):
        value = low.whole(value)
    factor = 1 / count if mean else 1.0
    shape = tuple(1 if i in axes else size for i, size in enumerate(value.shape))
    terms = tuple(
        Term(low.emit(Sum((filled(low, wire, value.shape),), axes)), scale * factor) for wire, scale in value.terms
    )
    offset = np.broadcast_to(value.offset, value.shape).sum(axes, keepdims=True) * factor
    return replace(value, terms=terms, offset=shrunk(offset), shape=shape)


def _pair(value: Any, default: tuple[int, int]) -> tuple[int, int]:
    values = [value] if isinstance(value, int) else list(value or default)
    return (values[0], values[-1])


@lowers("avg_pool2d")
def average(low: Lowering, node: Node) -> Affine:
    kernel = _pair(node.argument(1, "kernel_size"), (1, 1))
    stride, padding = _pair(node.argument(2, "stride"), kernel), _pair(node.argument(3, "padding", 0), (0, 0))
    counts_border = node.argument(5, "count_include_pad", True) or padding == (0, 0)
    if node.argument(4, "ceil_mode", False) or node.argument(6, "divisor_override") or not counts_border:
        raise ValueError("only averages over whole windows that count their borders can be lowered")
    value = low.of(node.inputs[0])
    if any(size > 1 for term in value.terms for size in term.scale.shape[-2:]):
        value = low.whole(value)
    size = kernel[0] * kernel[1]
    shape = tuple(node.output.shape[-3:])
    terms = []
    for wire, scale in value.terms:
        wire = filled(low, wire, value.shape)
        made = low.emit(Window((wire,), "sum", kernel, stride, padding))
        terms.append(Term(made, scale / size))
    constant = Window((), "sum", kernel, stride, padding).compute(
        np.broadcast_to(value.offset, value.shape)[None, None]
    )
    return replace(value, terms=tuple(terms), offset=shrunk(constant[0, 0] / size), shape=shape)


@lowers("max_pool2d_with_indices", "max_pool2d")
def maximum(low: Lowering, node: Node) -> Affine:
    kernel = _pair(node.argument(1, "kernel_size"), (1, 1))
    stride, padding = _pair(node.argument(2, "stride"), kernel), _pair(node.argument(3, "padding", 0), (0, 0))
    dilation = _pair(node.argument(4, "dilation", 1), (1, 1))
    if dilation != (1, 1) or node.argument(5, "ceil_mode", False):
        raise ValueError("only maxima of whole windows without dilation can be lowered")
    value = low.of(node.inputs[0])
    places = [*value.offset.shape[-2:], *(size for term in value.terms for size in term.scale.shape[-2:])]
    if len(value.terms) != 1 or any(size > 1 for size in places):
        value = low.fixed(value)
    (wire, scale), shape = value.terms[0], tuple(node.output.shape[-3:])
    if (scale < 0).any():  # the largest of what is multiplied by a number below zero is the smallest
        sign = np.where(scale < 0, -1.0, 1.0)
        turned = low.whole(Affine((Term(wire, sign),), spread(0, value.shape), value.shape, value.steps, value.lead))
        wire, scale = turned.terms[0].wire, np.abs(scale) * turned.terms[0].scale
    wire = filled(low, wire, value.shape)
    made = low.emit(Window((wire,), "max", kernel, stride, padding, low.wires[wire].low))
    return replace(value, terms=(Term(made, scale),), shape=shape)
