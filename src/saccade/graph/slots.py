"""Axes of tensors that are the same axis: union-find over factors of axes.

An axis is a tuple of factors, outermost first: () for an axis of size one, one factor for most, (channels, height, width) after
a map was flattened. Two factors that are tied have the same length in any narrower or wider form of the model. A factor is
fixed, with a reason in words, where something needs its present length or order.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

Axis = tuple[int, ...]


class Slots:
    """Factors by number."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._parents: list[int] = []
        self._reasons: dict[int, str] = {}

    def fresh(self, size: int) -> Axis:
        """A new axis of one factor, or of none if its size is one."""
        if size == 1:
            return ()
        self.sizes.append(size)
        self._parents.append(len(self._parents))
        return (len(self._parents) - 1,)

    def root(self, factor: int) -> int:
        """The number that stands for all factors tied to this one."""
        while self._parents[factor] != factor:
            self._parents[factor] = self._parents[self._parents[factor]]
            factor = self._parents[factor]
        return factor

    def length(self, axis: Axis) -> int:
        return prod(self.sizes[factor] for factor in axis)

    def tie(self, a: Axis, b: Axis, where: str) -> None:
        """The two axes are one; where they are made of different factors, both keep their present length."""
        if [self.sizes[f] for f in a] != [self.sizes[f] for f in b]:
            self.fix(a, f"tied to an axis of another make by {where}")
            self.fix(b, f"tied to an axis of another make by {where}")
            return
        for one, other in zip(a, b, strict=True):
            one, other = self.root(one), self.root(other)
            if one != other:
                self._parents[other] = one
                if other in self._reasons:
                    self._reasons.setdefault(one, self._reasons.pop(other))

    def fix(self, axis: Axis, reason: str) -> None:
        """The first reason that is given stays."""
        for factor in axis:
            self._reasons.setdefault(self.root(factor), reason)

    def reason(self, factor: int) -> str:
        """Why a factor is fixed; "" if it is not."""
        return self._reasons.get(self.root(factor), "")

    def regroup(self, axes: Sequence[Axis], shape: Sequence[int], where: str) -> list[Axis]:
        """The axes of a view of another shape: factors keep their order; one that is cut in two is fixed."""
        if 0 in shape:
            return [self.fresh(size) for size in shape]
        left = [factor for axis in axes for factor in axis]
        result: list[Axis] = []
        i = 0
        while i < len(shape):
            taken, length = 0, 1
            while length < shape[i]:
                length *= self.sizes[left[taken]]
                taken += 1
            if length == shape[i]:
                result.append(tuple(left[:taken]))
                i += 1
            else:  # boundaries do not meet: go on until they do
                start, wanted = i, shape[i]
                i += 1
                while length != wanted:
                    if wanted < length:
                        wanted *= shape[i]
                        i += 1
                    else:
                        length *= self.sizes[left[taken]]
                        taken += 1
                self.fix(tuple(left[:taken]), f"cut in pieces by {where}")
                for size in shape[start:i]:
                    axis = self.fresh(size)
                    self.fix(axis, f"cut in pieces by {where}")
                    result.append(axis)
            left = left[taken:]
        return result
