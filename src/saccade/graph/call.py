"""One dispatched operation, as the counting rules see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from saccade.graph.alphabet import Alphabet, as_fraction, exact_sum, to_steps
from saccade.graph.formula import Formula, place_of
from saccade.graph.records import Counts, OpRecord
from saccade.graph.tape import Tape

BINARY = Alphabet(Fraction(1), 0, 1)


@dataclass
class Call:
    """One dispatched operation after it ran: arguments as they were before it, its first output, and where it is.

    `name`: without its namespace if it is torch's own, and without a trailing underscore. `where`: the path of the module
    that runs it, whose bias parameter is `bias`. `record` receives the counts.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Tensor
    tape: Tape
    where: str
    bias: Tensor | None
    record: Callable[[OpRecord], None]
    formula: Formula | None = None  # of the output, from ``exact``

    def arg(self, index: int, name: str, default: Any = None) -> Any:
        """An argument by position or name."""
        return self.args[index] if index < len(self.args) else self.kwargs.get(name, default)

    def alphabet(self, x: Tensor) -> Alphabet | None:
        """The spike alphabet of a tensor; None if analog. Truth values are {0,1} by nature."""
        return BINARY if x.dtype == torch.bool else self.tape[x].alphabet

    def number(self, x: Any) -> float | None:
        """The value of a Python number or of a constant tensor of one element."""
        if not isinstance(x, Tensor):
            return float(x)
        return float(x) if x.numel() == 1 and not self.tape[x].live else None

    def steps(self, x: Tensor) -> Tensor:
        """|k| of a spike tensor, checked against its alphabet unless these very values were checked before.

        Values from an exact sum or product may fill less than their interval (`a + s - a*s` of two binary tensors
        stays binary): the check narrows the interval to what it saw, though not below {0,1}.
        """
        known, alphabet = self.tape[x], self.alphabet(x)
        assert alphabet is not None
        if known.checked == x._version:
            k = x if alphabet.unit == 1 else (x / float(alphabet.unit)).round()
        else:
            k = to_steps(x, alphabet, f"{self.where}: input of {self.name}")
            if (
                self.tape.narrow
                and known.alphabet
                and k.numel()
                and x.numel() * x.element_size() == x.untyped_storage().nbytes()
            ):
                seen_low, seen_high = (int(v) for v in k.aminmax())
                low, high = max(alphabet.low, min(seen_low, 0)), min(alphabet.high, max(seen_high, 1))
                self.tape[x] = replace(known, alphabet=Alphabet(alphabet.unit, low, high), checked=x._version)
        return k.abs() if alphabet.low < 0 else k

    def event_sum(self, x: Tensor, dim: tuple[int, ...] | None = None) -> Tensor:
        """Unrolled events of a spike tensor, summed over `dim` (all): int64."""
        alphabet = self.alphabet(x)
        assert alphabet is not None
        return exact_sum(self.steps(x), max(abs(alphabet.low), abs(alphabet.high)), dim)

    def formula_of(self, x: Any) -> Formula:
        """How a spike tensor or a number came about; the same symbol for the same values."""
        if not isinstance(x, Tensor) or self.number(x) is not None:
            return Formula.number(as_fraction(self.number(x) or 0.0))
        known, alphabet = self.tape[x], self.alphabet(x)
        assert alphabet is not None
        if known.formula is None or known.formula.place != place_of(x):
            known = replace(known, alphabet=alphabet, formula=replace(Formula.of(alphabet), place=place_of(x)))
            self.tape[x] = known
        assert known.formula is not None
        return known.formula

    def exact(self, interval: Alphabet | None, formula: Formula) -> Alphabet | None:
        """The alphabet of a result, cut to what its formula reaches, which is kept for what comes next."""
        cut = None if interval is None else formula.within(interval)
        if cut is None:
            return interval
        self.formula = formula
        return cut

    def repeats(self, x: Tensor) -> int:
        """How often broadcasting uses each element of `x`."""
        return self.out.numel() // max(x.numel(), 1)

    def count(self, op: str = "elementwise", **counts: int) -> None:
        """Adds plain counts."""
        self.record(OpRecord(self.where, op, outputs=self.out.numel(), counts=Counts(**counts)))
