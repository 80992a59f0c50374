"""Where the numbers of a wire lie in memory, and loops over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from saccade.deploy.values import Shape

Strides = tuple[int, ...]


def c_type(low: int, high: int, least: int = 8) -> str:
    """The narrowest type that holds ``low .. high``, of at least so many bits. Without a sign only where C computes on in int,
    which has one."""
    for bits in (8, 16, 32, 64):
        if bits < least:
            continue
        if low >= 0 and high < 1 << bits and bits < 32:
            return f"uint{bits}_t"
        if low >= -(1 << (bits - 1)) and high < 1 << (bits - 1):
            return f"int{bits}_t"
    raise ValueError(f"numbers from {low} to {high} need more than 64 bits")


def wide_type(*ends: int) -> str:
    """What to compute in: 32 bits where they hold all that comes up, else 64."""
    return c_type(min(*ends, -1), max(*ends, 0), least=32)


def bytes_of(kind: str) -> int:
    return int("".join(filter(str.isdigit, kind))) // 8


@dataclass(frozen=True)
class View:
    """Numbers ``[shape]`` of a buffer: number ``(i, j, ...)`` lies at ``offset + i * strides[0] + j * strides[1] + ...``, and
    by_step further in each step.

    buffer: the number of the wire whose memory it is. What only moves numbers gives another view of the same buffer.
    """

    buffer: int
    kind: str
    shape: Shape
    strides: Strides
    offset: int = 0
    by_step: int = 0

    def spread(self, shape: Shape) -> View:
        """Axes of size 1 repeated, without memory."""
        shape = np.broadcast_shapes(self.shape, shape)
        strides = tuple(0 if size == 1 else stride for size, stride in zip(self.shape, self.strides, strict=True))
        return replace(self, shape=shape, strides=strides)

    @property
    def order(self) -> Strides:
        """Its axes from the outermost in memory to the innermost."""
        return tuple(sorted(range(len(self.shape)), key=lambda axis: -abs(self.strides[axis])))

    def places(self) -> npt.NDArray[np.int64]:
        """Where each number lies."""
        found = np.full(self.shape, self.offset, np.int64)
        for axis, (size, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
            found += np.arange(size).reshape([-1 if i == axis else 1 for i in range(len(self.shape))]) * stride
        return found


def view_of(base: View, places: npt.NDArray[np.int64]) -> View | None:
    """The view whose numbers lie at these places of a buffer; None where no strides say so."""
    first = int(places.flat[0])
    axes = range(places.ndim)
    strides = tuple(
        int(places[tuple(int(axis == other) for other in axes)]) - first if places.shape[axis] > 1 else 0
        for axis in axes
    )
    found = replace(base, shape=places.shape, strides=strides, offset=first)
    return found if np.array_equal(found.places(), places) else None


def packed_strides(shape: Shape, order: Sequence[int] | None = None) -> Strides:
    """Of numbers without gaps whose axes come in an order, outermost first (default: as they stand)."""
    strides, step = [0] * len(shape), 1
    for axis in reversed(order if order is not None else range(len(shape))):
        strides[axis] = step
        step *= shape[axis]
    return tuple(strides)


def channels_last(shape: Shape) -> tuple[int, ...]:
    """The order of the axes of what layers with weights make: maps ``[C, H, W]`` have all channels of a place together, so
    that a spike adds a row of weights to a row of sums."""
    return (1, 2, 0) if len(shape) == 3 else tuple(range(len(shape)))


@dataclass
class Nest:
    """Nested loops over ``shape``: heads of the loops, and for each operand the index of its number."""

    heads: list[str]
    indices: dict[str, str]

    def around(self, body: Sequence[str]) -> list[str]:
        """Lines of C: the body within the loops."""
        lines = ["    " * depth + head for depth, head in enumerate(self.heads)]
        lines += ["    " * len(self.heads) + line for line in body]
        return lines + ["    " * depth + "}" for depth in reversed(range(len(self.heads)))]


def nest(shape: Shape, operands: dict[str, Strides], order: Sequence[int], keep: dict[int, str] | None = None) -> Nest:
    """Loops in an order of the axes, outermost first; neighbours that lie behind each other in all operands become one.

    keep: names of loop variables of axes that must stay by themselves.
    """
    keep = keep or {}
    loops: list[tuple[int, dict[str, int], str | None]] = []
    for axis in order:
        size, steps = shape[axis], {name: strides[axis] for name, strides in operands.items()}
        if size == 1 and axis not in keep:
            continue
        if loops and axis not in keep and loops[-1][2] is None:
            outer, before, _ = loops[-1]
            if all(before[name] == steps[name] * size for name in operands):
                loops[-1] = (outer * size, steps, None)
                continue
        loops.append((size, steps, keep.get(axis)))
    letters = iter("ijklmn")
    heads, found = [], {name: [] for name in operands}  # type: ignore[var-annotated]
    for size, steps, name in loops:
        variable = name or next(letters)
        heads.append(f"for (int {variable} = 0; {variable} < {size}; {variable}++) {{")
        for operand, step in steps.items():
            if step:
                found[operand].append(variable if step == 1 else f"{step} * {variable}")
    return Nest(heads, {name: " + ".join(parts) or "0" for name, parts in found.items()})


def at(offset: int, index: str) -> str:
    """An index behind an offset."""
    if not offset:
        return index
    return f"{offset}" if index == "0" else f"{offset} + {index}"


def narrow(array: Any) -> str:
    """The narrowest type that holds all numbers of an array."""
    array = np.asarray(array)
    return c_type(int(array.min(initial=0)), int(array.max(initial=0)))


def size_of(shape: Shape) -> int:
    return math.prod(shape)
