"""What lowering knows of a tensor of the model: whole numbers of wires, times scales, plus an offset."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Shape = tuple[int, ...]
LARGEST_WIRE = 1 << 28  # numbers of a step of a sample


class Term(NamedTuple):
    """``scale * wire``; scale has the axes of a step of a sample, of size 1 where it does not change."""

    wire: int
    scale: Reals


@dataclass(frozen=True)
class Affine:
    """``sum scale * wire + offset``: a tensor of the model, exactly.

    shape: of a step of a sample. lead: how many axes of the traced tensor stand in front of it: 2 (time, samples), 1 (both in
    one), or 0 (both and the first axis of ``shape`` in one, as batched products have it). steps: of the traced tensor.
    """

    terms: tuple[Term, ...]
    offset: Reals
    shape: Shape
    steps: int
    lead: int = 2

    def axis(self, axis: int, dims: int) -> int:
        """The axis of ``shape`` that an axis of the traced tensor of ``dims`` dimensions is. Raises ValueError for time or
        samples."""
        found = axis % dims - (self.lead if self.lead else 0)
        if self.lead == 0 and axis % dims == 0:
            raise ValueError("samples lie on this axis too")
        if found < 0:
            raise ValueError("time or samples lie on this axis")
        return found

    def times(self, factor: Any) -> Affine:
        terms = tuple(Term(wire, scale * factor) for wire, scale in self.terms)
        return replace(self, terms=terms, offset=self.offset * factor)

    def plus(self, offset: Any) -> Affine:
        return replace(self, offset=self.offset + offset)

    @property
    def single(self) -> Term | None:
        """The one term that it is, without an offset; None if it is more."""
        return self.terms[0] if len(self.terms) == 1 and not self.offset.any() else None


def spread(value: Any, shape: Shape) -> Reals:
    """A number or array as ``Affine`` keeps it: the axes of ``shape``, size 1 where nothing changes."""
    array = np.asarray(value, dtype=np.float64)
    while array.ndim > len(shape):
        if len(array) != 1:
            raise ValueError(
                f"a constant {list(np.shape(value))} that changes from step to step or from sample to sample"
            )
        array = array[0]
    array = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    return shrunk(array)


def on_axis(values: Any, axis: int, shape: Shape) -> Reals:
    """Numbers ``[C]`` for the places of one axis."""
    array = np.asarray(values, dtype=np.float64)
    return array.reshape([-1 if i == axis else 1 for i in range(len(shape))])


def shrunk(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Axes along which nothing changes brought to size 1."""
    for axis in range(array.ndim):
        if array.shape[axis] > 1:
            first = array.take([0], axis)
            if (array == first).all():
                array = first
    return array


def magnitude(array: npt.NDArray[Any]) -> float:
    """The largest size of a number; ``np.abs`` of the least of 64 bits would be below 0."""
    return max(-float(array.min()), float(array.max()))


def windows(
    shape: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int] = (1, 1),
) -> Shape:
    """How many windows lie along each of the last two axes of maps. Raises ValueError where there are none, or padding makes
    maps of them that no machine holds."""
    numbers = (*kernel, *stride, *dilation)
    if any(len(pair) != 2 for pair in (kernel, stride, padding, dilation)) or min(numbers) < 1 or min(padding) < 0:
        raise ValueError(f"windows {kernel}, stride {stride}, padding {padding}, dilation {dilation}")
    sides = tuple(shape[-2:])
    if math.prod(shape[:-2]) * math.prod(side + 2 * p for side, p in zip(sides, padding, strict=True)) > LARGEST_WIRE:
        raise ValueError(f"padding {list(padding)} around maps {list(shape)}")
    found = tuple(
        (side + 2 * p - d * (k - 1) - 1) // s + 1
        for side, k, s, p, d in zip(sides, kernel, stride, padding, dilation, strict=True)
    )
    if min(found) < 1:
        raise ValueError(f"windows {list(kernel)} are larger than a map {list(sides)}")
    return found
