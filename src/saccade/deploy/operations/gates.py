"""Gates that look at a whole sequence, and what they are made of: means and maxima, small networks, sigmoids.

A gate is one number for each step, channel or place of a sample. Its logits have a fixed point; a sigmoid is right to 2^-22.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from saccade.deploy.engine import Native
from saccade.deploy.lowering import Lowering, lowers
from saccade.deploy.operations.combine import joined
from saccade.deploy.operations.hold import held
from saccade.deploy.operations.membrane import neurons
from saccade.deploy.operations.movement import Reshape, filled, moved
from saccade.deploy.operations.pooling import summed
from saccade.deploy.operations.synapse import through
from saccade.deploy.program import Operation, Stateless, Wire
from saccade.deploy.values import Affine, Integers, Term, spread
from saccade.graph import Node
from saccade.layers.attention.syna import ChannelGate, SpatialGate, TimeGate

POINT, ENTRIES, END = (
    20,
    4096,
    16,
)  # bits behind the point of a logit; pieces of a line from 0 to where the sigmoid is 1
SIGMOID_BITS = 24


@dataclass(frozen=True)
class Peak(Stateless):
    """Maxima over axes of a step of a sample, which stay with size 1."""

    name = "peak"
    axes: tuple[int, ...]

    def made(self, *given: Wire) -> Wire:
        axes = set(self.axes)
        if not axes or len(axes) < len(self.axes) or not axes <= set(range(len(given[0].shape))):
            raise ValueError(f"axes {list(self.axes)} of {list(given[0].shape)}")
        return replace(given[0], shape=tuple(1 if i in self.axes else n for i, n in enumerate(given[0].shape)))

    def compute(self, *given: Integers) -> Integers:
        highest: Integers = given[0].max(tuple(axis + 2 for axis in self.axes), keepdims=True)
        return highest

    def native(self) -> Native:
        return Native("peak", self.axes)


@dataclass(frozen=True)
class Collect(Operation):
    """All ``steps`` of a sample as its first axis: ``[T, N, ...] -> [1, N, T, ...]``, the same in every step."""

    name = "collect"
    steps: int

    def made(self, *given: Wire) -> Wire:
        return replace(given[0], shape=(self.steps, *given[0].shape))

    def changes(self, *given: bool) -> bool:
        return False

    def run(self, *given: Integers) -> Integers:
        if len(given[0]) != self.steps:
            raise ValueError(f"a gate over {self.steps} steps is given {len(given[0])}")
        return given[0].swapaxes(0, 1)[None]

    def step(self, state: Any, *given: Integers) -> tuple[Integers, Any]:
        raise ValueError("a gate looks at all steps of a sequence, so the program cannot be streamed; use run")

    def native(self) -> Native:
        return Native("collect")


@dataclass(frozen=True)
class Deal(Operation):
    """The other way round: ``[1, N, T, ...] -> [T, N, ...]``, to each step its part."""

    name = "deal"
    mixes_time = True

    def made(self, *given: Wire) -> Wire:
        if not given[0].shape:
            raise ValueError("a number has no axis of steps")
        return replace(given[0], shape=given[0].shape[1:])

    def run(self, *given: Integers) -> Integers:
        return given[0][0].swapaxes(0, 1)

    def step(self, state: Any, *given: Integers) -> tuple[Integers, Any]:
        raise ValueError("a gate looks at all steps of a sequence, so the program cannot be streamed; use run")

    def native(self) -> Native:
        return Native("deal")


@dataclass(frozen=True)
class Relu(Stateless):
    """``max(x, 0)``."""

    name = "relu"

    def made(self, *given: Wire) -> Wire:
        return replace(given[0], low=max(given[0].low, 0), high=max(given[0].high, 0))

    def compute(self, *given: Integers) -> Integers:
        return np.maximum(given[0], 0)

    def native(self) -> Native:
        return Native("relu")


@cache
def sigmoid_table() -> Integers:
    """``2^24 / (1 + exp(-x))`` at the ends of 4096 pieces of x from 0 to 16."""
    x = np.arange(ENTRIES + 1) * (END / ENTRIES)
    return np.rint(2.0**SIGMOID_BITS / (1 + np.exp(-x))).astype(np.int64)


@dataclass(frozen=True)
class Sigmoid(Stateless):
    """``2^24 / (1 + exp(-x / 2^20))`` by lines between the entries of ``sigmoid_table``."""

    name = "sigmoid"

    def made(self, *given: Wire) -> Wire:
        return replace(given[0], low=0, high=1 << SIGMOID_BITS)

    def compute(self, *given: Integers) -> Integers:
        table, bits = sigmoid_table(), POINT - int(math.log2(ENTRIES // END))
        size = np.minimum(np.abs(given[0]), (END << POINT) - 1)
        piece, rest = size >> bits, size & ((1 << bits) - 1)
        left, right = table[piece], table[piece + 1]
        y = left + ((((right - left) * rest) + (1 << (bits - 1))) >> bits)
        return np.where(given[0] < 0, (1 << SIGMOID_BITS) - y, y)

    def native(self) -> Native:
        return Native("sigmoid", (POINT - int(math.log2(ENTRIES // END)), SIGMOID_BITS), (sigmoid_table(),))


@lowers("relu")
def relu(low: Lowering, node: Node) -> Affine:
    return rectified(low, low.of(node.inputs[0]))


def rectified(low: Lowering, value: Affine) -> Affine:
    term = value.single
    if term is None or (term.scale < 0).any():
        value = low.fixed(value)
    wire, scale = value.terms[0]
    if low.wires[wire].low >= 0:
        return replace(value)
    return replace(value, terms=(Term(low.emit(Relu((wire,))), scale),))


def _peak(low: Lowering, value: Affine, axes: tuple[int, ...]) -> Affine:
    """Maxima over axes of a value of one scale above 0."""
    wire = filled(low, value.terms[0].wire, value.shape)
    made = low.emit(Peak((wire,), axes))
    shape = low.wires[made].shape
    return replace(value, terms=(Term(made, value.terms[0].scale),), offset=spread(0, shape), shape=shape)


def _collected(low: Lowering, value: Affine, steps: int) -> Affine:
    """A value of one scale and no offset, all steps as its first axis."""
    wire = held(low, filled(low, value.terms[0].wire, value.shape), steps)
    shape = (steps, *value.shape)
    scale = spread(value.terms[0].scale, value.shape)[None]
    return Affine((Term(low.emit(Collect((wire,), steps)), scale),), spread(0, shape), shape, 1)


def _as(low: Lowering, value: Affine, shape: tuple[int, ...]) -> Affine:
    return moved(low, value, lambda wire: Reshape((wire,), shape), value.lead)


def _mlp(low: Lowering, path: str, mlp: Any, value: Affine) -> Affine:
    """Linear - ReLU - Linear along the last axis."""
    hidden = rectified(low, through(low, low.fixed(value), mlp[0], f"{path}.mlp.0"))
    return low.fixed(through(low, hidden, mlp[2], f"{path}.mlp.2"))


def _fired(low: Lowering, node: Node, logits: Affine) -> Affine:
    """A sigmoid of the logits, or the spikes of the gate's neuron."""
    gate: Any = node.module
    if gate.bias is not None:
        logits = logits.plus(float(gate.bias.detach()))
    steps = node.output.shape[0]
    if gate.neuron is not None:
        return neurons(low, gate.neuron, f"{node.path}.neuron", logits, 0, steps)
    wire = low.fixed(logits, POINT).terms[0].wire
    scale = spread(2.0**-SIGMOID_BITS, logits.shape)
    one = Term(low.emit(Sigmoid((wire,))), scale)
    return replace(logits, terms=(one,), offset=spread(0, logits.shape), steps=steps)


@lowers(TimeGate)
def time_gate(low: Lowering, node: Node) -> Affine:
    gate: Any = node.module
    x, T = low.fixed(low.of(node.inputs[0])), gate.fixed_T
    total = None
    for value in (summed(low, x, (0, 1, 2), mean=True), _peak(low, x, (0, 1, 2))):
        steps = _as(low, _collected(low, low.fixed(value), T), (T,))
        found = _mlp(low, node.path, gate.mlp, steps)
        total = found if total is None else joined(total, found)
    assert total is not None
    logits = low.fixed(total)
    dealt = low.emit(Deal((low.emit(Reshape(logits.terms[0][:1], (T, 1, 1, 1))),)))
    one = Term(dealt, spread(logits.terms[0].scale.reshape(-1)[0], (1, 1, 1)))
    return _fired(low, node, Affine((one,), spread(0, (1, 1, 1)), (1, 1, 1), T))


@lowers(ChannelGate)
def channel_gate(low: Lowering, node: Node) -> Affine:
    gate: Any = node.module
    x, T = low.fixed(low.of(node.inputs[0])), node.inputs[0].shape[0]
    channels = x.shape[0]
    mean = summed(low, _collected(low, summed(low, x, (1, 2), mean=True), T), (0,), mean=True)
    peak = _peak(low, _collected(low, _peak(low, x, (1, 2)), T), (0,))
    found = [_mlp(low, node.path, gate.mlp, _as(low, value, (channels,))) for value in (mean, peak)]
    logits = low.fixed(joined(*found))
    return _fired(low, node, _as(low, logits, (channels, 1, 1)))


@lowers(SpatialGate)
def spatial_gate(low: Lowering, node: Node) -> Affine:
    gate: Any = node.module
    x, T = low.fixed(low.of(node.inputs[0])), node.inputs[0].shape[0]
    place = (1, *x.shape[1:])
    mean = summed(low, _collected(low, summed(low, x, (0,), mean=True), T), (0,), mean=True)
    peak = _peak(low, _collected(low, _peak(low, x, (0,)), T), (0,))
    maps = [low.fixed(_as(low, value, place)) for value in (mean, peak)]
    found = [through(low, value, gate.conv, f"{node.path}.conv", slice(i, i + 1)) for i, value in enumerate(maps)]
    return _fired(low, node, joined(*found))
