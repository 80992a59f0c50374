"""Levels by comparisons: neurons without a state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from saccade.deploy.engine import Native
from saccade.deploy.lowering import Lowering
from saccade.deploy.program import Stateless, Wire, together
from saccade.deploy.values import Affine, Integers, Reals, Term, shrunk, spread
from saccade.graph import Node

ALWAYS, NEVER = -(2**62), 2**62  # thresholds of channels that do not depend on their input


@dataclass(frozen=True)
class Thresholds(Stateless):
    """How many of ``thresholds [D, ...]`` ``sign * x`` reaches: the level, 0 to D."""

    name = "thresholds"
    sign: Integers
    thresholds: Integers

    def made(self, *given: Wire) -> Wire:
        if (np.abs(self.sign) != 1).any():
            raise ValueError("its signs are 1 and -1")
        shape = together(given, self.sign.shape, self.thresholds.shape[1:])
        return Wire(shape, 0, len(self.thresholds))

    def compute(self, *given: Integers) -> Integers:
        x = self.sign * given[0]
        return sum(((x >= level).astype(np.int64) for level in self.thresholds), np.zeros((), np.int64))

    def native(self) -> Native:
        return Native("thresholds", (), (self.sign, self.thresholds))


def reached(level: Any, scale: Reals, offset: Reals) -> Integers:
    """The least whole n with ``|scale| n + offset >= level``; where the scale is 0, always or never."""
    left = level - offset
    with np.errstate(divide="ignore", invalid="ignore"):
        n = np.ceil(left / np.abs(scale))
    n = np.where(scale == 0, np.where(left <= 0, -np.inf, np.inf), n)
    return shrunk(np.clip(n, ALWAYS, NEVER)).astype(np.int64)


def one_term(low: Lowering, value: Affine) -> Affine:
    """The value as one term, whose scale and offset may change from place to place."""
    return value if len(value.terms) == 1 else low.whole(value)


def levels(low: Lowering, node: Node, value: Affine, D: int, divisor: float) -> Affine:
    """``floor(clamp(value, 0, D) + 1/2) / divisor`` of a value."""
    return compared(
        low, node.path, one_term(low, value), [k - 0.5 for k in range(1, D + 1)], 1 / divisor, node.output.shape[0]
    )


def compared(low: Lowering, path: str, value: Affine, thresholds: Sequence[Any], unit: float, steps: int) -> Affine:
    """How many of the thresholds (numbers, or arrays by place) a value of one term reaches, times ``unit``."""
    (wire, scale), offset = value.terms[0], value.offset
    scale, offset, *levels = np.broadcast_arrays(scale, offset, *thresholds)
    theta = np.stack([np.broadcast_to(reached(level, scale, offset), scale.shape) for level in levels])
    sign = shrunk(np.where(scale < 0, -1, 1)).astype(np.int64)
    reach = max(-low.wires[wire].low, low.wires[wire].high) + 1  # what is beyond it is reached never, or always
    return fired(low, path, value, Thresholds((wire,), sign, np.clip(theta, -reach, reach)), unit, steps)


def fired(low: Lowering, path: str, value: Affine, record: Any, unit: float, steps: int) -> Affine:
    """The levels that a neuron's record gives, under the path of the neuron."""
    made = low.emit(record, path)
    steps = steps if value.lead == 2 else value.steps
    return replace(value, terms=(Term(made, spread(unit, value.shape)),), offset=spread(0, value.shape), steps=steps)
