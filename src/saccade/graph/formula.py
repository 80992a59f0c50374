"""Exact ranges of arithmetic on the same spikes: ``a + s - a * s`` of two binary tensors holds 0 and 1, nothing else.

Interval arithmetic takes every occurrence of a tensor for another tensor, and would give -1 to 2. So sums and products of
spikes are kept as polynomials in the tensors that they came from, elementwise, and the range is that of all combinations.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import prod

from torch import Tensor

from saccade.graph.alphabet import Alphabet

MOST_COMBINATIONS = 256
_serial = itertools.count()

Polynomial = Mapping[tuple[int, ...], Fraction]  # from the symbols of a product, ascending, to its coefficient


def place_of(x: Tensor) -> tuple[object, ...]:
    """Where a tensor lies in its storage, and the version of what lies there."""
    return x.storage_offset(), tuple(x.shape), x.stride(), x._version


@dataclass(frozen=True)
class Formula:
    """A polynomial in symbols, each standing for a tensor of an alphabet; ``place``: of the tensor that it describes."""

    polynomial: Polynomial
    symbols: Mapping[int, Alphabet]
    place: tuple[object, ...] = ()

    @classmethod
    def of(cls, alphabet: Alphabet) -> Formula:
        """A new symbol."""
        symbol = next(_serial)
        return cls({(symbol,): Fraction(1)}, {symbol: alphabet})

    @classmethod
    def number(cls, value: Fraction) -> Formula:
        return cls({(): value}, {})

    def plus(self, other: Formula) -> Formula:
        total = dict(self.polynomial)
        for product, coefficient in other.polynomial.items():
            total[product] = total.get(product, Fraction(0)) + coefficient
        return Formula({product: c for product, c in total.items() if c}, {**self.symbols, **other.symbols})

    def times(self, other: Formula) -> Formula:
        total: dict[tuple[int, ...], Fraction] = {}
        for (a, x), (b, y) in itertools.product(self.polynomial.items(), other.polynomial.items()):
            product = tuple(sorted(a + b))
            total[product] = total.get(product, Fraction(0)) + x * y
        return Formula({product: c for product, c in total.items() if c}, {**self.symbols, **other.symbols})

    def within(self, interval: Alphabet) -> Alphabet | None:
        """The interval, on its own grid, cut to what the polynomial reaches; None where there are too many combinations."""
        used = sorted({symbol for product in self.polynomial for symbol in product})
        sizes = [self.symbols[symbol].high - self.symbols[symbol].low + 1 for symbol in used]
        if prod(sizes) > MOST_COMBINATIONS:
            return None
        index = {symbol: i for i, symbol in enumerate(used)}
        terms = tuple((tuple(index[symbol] for symbol in product), c) for product, c in self.polynomial.items())
        low, high = _range(terms, tuple(self.symbols[symbol] for symbol in used))
        ends = low / interval.unit, high / interval.unit
        if any(end.denominator != 1 for end in ends):
            return interval
        return Alphabet(interval.unit, max(interval.low, int(ends[0])), min(interval.high, int(ends[1])))


@lru_cache(maxsize=1024)
def _range(
    terms: tuple[tuple[tuple[int, ...], Fraction], ...], alphabets: tuple[Alphabet, ...]
) -> tuple[Fraction, Fraction]:
    grids = [[alphabet.unit * k for k in range(alphabet.low, alphabet.high + 1)] for alphabet in alphabets]
    values = [
        sum((c * prod((point[i] for i in product), start=Fraction(1)) for product, c in terms), Fraction(0))
        for point in itertools.product(*grids)
    ]
    return min(values), max(values)
