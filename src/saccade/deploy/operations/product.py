"""Products of spikes with spikes: masks, logic, attention."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from saccade.deploy.engine import Native
from saccade.deploy.lowering import Lowering, constant, lowers
from saccade.deploy.operations.movement import filled
from saccade.deploy.program import LARGEST, Stateless, Wire, together
from saccade.deploy.values import Affine, Integers, Term, spread
from saccade.graph import Node, Value


@dataclass(frozen=True)
class Multiply(Stateless):
    """``a * b``, axes of size 1 repeated."""

    name = "multiply"

    def made(self, *given: Wire) -> Wire:
        return Wire(together(given), *_ends(*given))

    def compute(self, *given: Integers) -> Integers:
        return given[0] * given[1]

    def native(self) -> Native:
        return Native("multiply")


@dataclass(frozen=True)
class MatMul(Stateless):
    """``a [..., L, d] @ b [..., d, M]``."""

    name = "matmul"

    def made(self, *given: Wire) -> Wire:
        a, b = given
        if len(a.shape) < 2 or len(b.shape) < 2 or a.shape[-1] != b.shape[-2]:
            raise ValueError(f"a product of {list(a.shape)} and {list(b.shape)}")
        low, high = (end * a.shape[-1] for end in _ends(a, b))
        if max(-low, high) >= 1 << 53:
            raise ValueError("its sums need more than 53 bits")
        rows, columns = (replace(wire, shape=wire.shape[:-2]) for wire in given)
        return Wire((*together((rows, columns)), a.shape[-2], b.shape[-1]), low, high)

    def compute(self, *given: Integers) -> Integers:
        # float64 holds whole numbers below 2^53, which lowering has proven
        return np.rint(given[0].astype(np.float64) @ given[1].astype(np.float64)).astype(np.int64)

    def native(self) -> Native:
        return Native("matmul")


def _ends(a: Wire, b: Wire) -> tuple[int, int]:
    ends = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    return min(ends), max(ends)


def _bits(low: Lowering, value: Affine) -> int:
    return max(low.bits(term.wire) for term in value.terms)


@lowers("mul")
def multiply(low: Lowering, node: Node) -> Affine:
    first, second = node.args[0], node.args[1]
    live = [value for value in (first, second) if isinstance(value, Value) and value.live]
    if len(live) == 1:
        other = second if live[0] is first else first
        number = constant(other) if isinstance(other, Value) else other
        value = low.of(live[0])
        return value.times(spread(number, value.shape))
    a, b = low.of(first), low.of(second)
    if a.lead != b.lead:
        raise ValueError("its two inputs have their samples on different axes")
    if _bits(low, a) + _bits(low, b) > LARGEST:
        a, b = (min(value, low.fixed(value), key=lambda found: _bits(low, found)) for value in (a, b))
    shape = np.broadcast_shapes(a.shape, b.shape)
    # (sum s x + o)(sum t y + p): products of wires, and of each with the other's offset
    terms: dict[int, np.ndarray] = {}

    def add(wire: int, scale: np.ndarray) -> None:
        if scale.any():
            terms[wire] = terms[wire] + scale if wire in terms else scale

    for wire, scale in a.terms:
        add(wire, spread(scale, shape) * spread(b.offset, shape))
        for other, factor in b.terms:
            made = low.emit(Multiply((wire, other)))
            add(made, spread(scale, shape) * spread(factor, shape))
    for wire, scale in b.terms:
        add(wire, spread(scale, shape) * spread(a.offset, shape))
    offset = spread(a.offset, shape) * spread(b.offset, shape)
    return Affine(tuple(Term(*pair) for pair in terms.items()), offset, shape, max(a.steps, b.steps), a.lead)


@lowers("bmm", "matmul", "mm")
def matrix_product(low: Lowering, node: Node) -> Affine:
    a, b = (low.of(value) for value in node.inputs)
    if a.lead != b.lead or len(a.shape) < 2:
        raise ValueError("its two inputs have their samples on different axes")
    a = a if a.single is not None and a.single.scale.shape[-1] == 1 else low.whole(a)
    b = b if b.single is not None and b.single.scale.shape[-2] == 1 else low.whole(b)
    (x, s), (y, t) = a.terms[0], b.terms[0]
    x, y = filled(low, x, a.shape), filled(low, y, b.shape)
    shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    made = low.emit(MatMul((x, y)))
    scale = s * t
    return Affine((Term(made, scale),), spread(0, shape), shape, max(a.steps, b.steps), a.lead)
