"""Spike alphabets: the grid of values that a tensor of spikes may hold.

A spike tensor holds `unit * k` with an integer `k` in `[low, high]`; `|k|` is the number of binary events that one
element stands for (an integer spike 3/4 of a neuron with levels `{0, ..., 4}/4` is unrolled into three events).
Alphabets are declared by neurons, carried through exact arithmetic and checked against the values where they are
used. The carried interval is interval arithmetic: sound, and possibly wider than what occurs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd

import torch
from torch import Tensor

MAX_STEPS = 1 << 20  # a wider grid is no longer a spike: the tensor counts as analog


def as_fraction(value: float) -> Fraction:
    """The rational that a float means: 1/3 for 0.333..., the exact binary value where no short one fits."""
    exact = Fraction(value)
    short = exact.limit_denominator(1 << 16)
    return short if abs(short - exact) <= abs(exact) * Fraction(1, 10**12) else exact


def _common_unit(a: Fraction, b: Fraction) -> Fraction:
    return Fraction(gcd(a.numerator * b.denominator, b.numerator * a.denominator), a.denominator * b.denominator)


@dataclass(frozen=True)
class Alphabet:
    """Values `unit * k`, `k` an integer in `[low, high]`, `unit > 0`."""

    unit: Fraction
    low: int
    high: int

    @classmethod
    def of_levels(cls, levels: Sequence[float]) -> Alphabet:
        """The coarsest grid holding `levels`.

        Raises:
            ValueError: no levels, or levels on no grid of at most `MAX_STEPS` steps.
        """
        values = [as_fraction(float(level)) for level in levels]
        unit = Fraction(0)
        for value in values:
            unit = _common_unit(unit, value)
        if not values or unit == 0:
            raise ValueError(f"levels {tuple(levels)} hold no spike: give at least one value that is not zero")
        steps = [value / unit for value in values]
        made = cls(unit, int(min(steps)), int(max(steps)))._capped()
        if made is None:
            raise ValueError(f"levels {tuple(levels)} lie on no common grid")
        return made

    @classmethod
    def constant(cls, value: float) -> Alphabet:
        """The alphabet of a tensor filled with `value`."""
        fraction = as_fraction(value)
        k = (fraction > 0) - (fraction < 0)
        return cls(abs(fraction) or Fraction(1), k, k)

    def _capped(self) -> Alphabet | None:
        return self if self.high - self.low <= MAX_STEPS and max(abs(self.low), abs(self.high)) <= MAX_STEPS else None

    def _on(self, unit: Fraction) -> tuple[int, int]:
        ratio = self.unit / unit
        return int(self.low * ratio), int(self.high * ratio)

    def _shared(self, other: Alphabet) -> tuple[Fraction, tuple[int, int], tuple[int, int]]:
        if other.low == other.high == 0:
            unit = self.unit
        elif self.low == self.high == 0:
            unit = other.unit
        else:
            unit = _common_unit(self.unit, other.unit)
        return unit, self._on(unit), other._on(unit)

    def plus(self, other: Alphabet) -> Alphabet | None:
        """Alphabet of a sum; None when the grid becomes too fine."""
        unit, (a, b), (c, d) = self._shared(other)
        return Alphabet(unit, a + c, b + d)._capped()

    def times(self, other: Alphabet) -> Alphabet | None:
        """Alphabet of a product."""
        corners = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Alphabet(self.unit * other.unit, min(corners), max(corners))._capped()

    def join(self, other: Alphabet) -> Alphabet | None:
        """Alphabet of a tensor that holds values of either."""
        unit, (a, b), (c, d) = self._shared(other)
        return Alphabet(unit, min(a, c), max(b, d))._capped()

    def scale(self, factor: Fraction) -> Alphabet:
        """Alphabet after multiplication by a number."""
        if factor == 0:
            return Alphabet(Fraction(1), 0, 0)
        low, high = (self.low, self.high) if factor > 0 else (-self.high, -self.low)
        return Alphabet(self.unit * abs(factor), low, high)

    def summed(self, terms: int) -> Alphabet | None:
        """Alphabet of a sum of `terms` elements."""
        return Alphabet(self.unit, self.low * terms, self.high * terms)._capped()

    def clipped(self, low: float | None, high: float | None) -> Alphabet | None:
        """Alphabet after clamping to `[low, high]`; None when a bound in use lies off the grid."""
        ends = []
        for k in (self.low, self.high):
            end = Fraction(k)
            if low is not None and low > float("-inf"):
                end = max(end, as_fraction(low) / self.unit)
            if high is not None and high < float("inf"):
                end = min(end, as_fraction(high) / self.unit)
            if end.denominator != 1:
                return None
            ends.append(int(end))
        return Alphabet(self.unit, ends[0], ends[1])

    def __str__(self) -> str:
        inner = ",".join(str(k) for k in range(self.low, self.high + 1)) if self.high - self.low < 3 else ""
        steps = inner or f"{self.low}..{self.high}"
        if self.unit == 1:
            return f"{{{steps}}}"
        scale = f"/{self.unit.denominator}" if self.unit.numerator == 1 else f"*{float(self.unit):g}"
        return f"{{{steps}}}{scale}"


def to_steps(x: Tensor, alphabet: Alphabet, where: str) -> Tensor:
    """The integers `k` of a spike tensor, as floats of its shape, checked.

    Raises:
        ValueError: a value off the grid or out of range; the message names `where` and the value.
    """
    values = x if x.dtype.is_floating_point else x.float()
    scaled = values if alphabet.unit == 1 else values / float(alphabet.unit)
    steps = scaled.round()
    # float32 sums and means of spikes carry a rounding error of a few ulp: far from half a step.
    tolerance = 1e-3 + 4 * torch.finfo(values.dtype).eps * max(abs(alphabet.low), abs(alphabet.high))
    wrong = ((scaled - steps).abs() > tolerance) | (steps < alphabet.low) | (steps > alphabet.high) | scaled.isnan()
    if wrong.any():
        value = values[wrong].flatten()[0].item()
        raise ValueError(f"{where}: value {value:g} is not in the declared spike alphabet {alphabet}")
    return steps


def exact_sum(steps: Tensor, bound: int, dim: tuple[int, ...] | None = None) -> Tensor:
    """Sum of integer-valued floats of size up to `bound`, exact: int64 tensor.

    Raises:
        OverflowError: the sum might pass 2**53, where float64 stops counting.
    """
    worst = bound * max(steps.numel(), 1)
    if worst >= 1 << 53:
        raise OverflowError(f"{steps.numel()} spikes of up to {bound} events cannot be summed exactly")
    # float32 counts exactly to 2**24, and its sums are the fast ones
    small = worst < 1 << 24 and steps.dtype == torch.float32
    total = steps.sum(dim or (), dtype=torch.float32 if small else torch.float64)
    return total.to(torch.int64)
