"""Counting rules of elementwise arithmetic, comparisons and logic."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from torch import Tensor

from saccade.graph.alphabet import Alphabet, as_fraction, exact_sum
from saccade.graph.call import BINARY, Call
from saccade.graph.formula import Formula
from saccade.graph.rules.registry import counts


@counts("add", "sub", "rsub")
def add(call: Call) -> Alphabet | None:
    a, b = call.args[0], call.args[1]
    alpha = as_fraction(call.arg(2, "alpha", 1))
    sign_a, sign_b = (-alpha, Fraction(1)) if call.name == "rsub" else (Fraction(1), alpha)
    if call.name == "sub":
        sign_b = -alpha
    if abs(alpha) != 1 and call.alphabet(a if call.name == "rsub" else b) is None:
        call.count(mults=call.out.numel())
    return _sum_of(call, a, sign_a, b, sign_b)


def _sum_of(call: Call, a: Any, sign_a: Fraction, b: Any, sign_b: Fraction) -> Alphabet | None:
    for x, sign, other, sign_other in ((a, sign_a, b, sign_b), (b, sign_b, a, sign_a)):
        value = call.number(other)
        if value is not None:
            return _shifted(call, x, sign, sign_other * as_fraction(value))
    spikes_a, spikes_b = call.alphabet(a), call.alphabet(b)
    if spikes_a and spikes_b:
        call.count(adds=int(((call.steps(a) != 0) & (call.steps(b) != 0)).count_nonzero()))
        formula = _times(sign_a, call.formula_of(a)).plus(_times(sign_b, call.formula_of(b)))
        return call.exact(spikes_a.scale(sign_a).plus(spikes_b.scale(sign_b)), formula)
    if spikes_a or spikes_b:
        spikes = a if spikes_a else b
        call.count(adds=int(call.steps(spikes).count_nonzero()) * call.repeats(spikes))
    elif a is not call.bias and b is not call.bias:
        call.count(adds=call.out.numel())
    return None


def _shifted(call: Call, x: Tensor, sign: Fraction, shift: Fraction) -> Alphabet | None:
    alphabet = call.alphabet(x)
    if shift != 0:
        call.count(adds=call.out.numel() if alphabet is None else int(call.steps(x).count_nonzero()))
    if alphabet is None:
        return None
    formula = _times(sign, call.formula_of(x)).plus(Formula.number(shift))
    return call.exact(alphabet.scale(sign).plus(Alphabet.constant(float(shift))), formula)


@counts("mul")
def mul(call: Call) -> Alphabet | None:
    a, b = call.args[0], call.args[1]
    if call.number(a) is not None:
        a, b = b, a
    factor = call.number(b)
    if factor is not None:
        return _scaled(call, a, as_fraction(factor))
    spikes_a, spikes_b = call.alphabet(a), call.alphabet(b)
    if spikes_a and spikes_b:
        bound = max(abs(spikes_a.low), abs(spikes_a.high)) * max(abs(spikes_b.low), abs(spikes_b.high))
        call.count(ands=int(exact_sum(call.steps(a) * call.steps(b), bound)))
        return call.exact(spikes_a.times(spikes_b), call.formula_of(a).times(call.formula_of(b)))
    if spikes_a or spikes_b:
        spikes = a if spikes_a else b
        call.count(ands=int(call.event_sum(spikes)) * call.repeats(spikes))
    else:
        call.count(mults=call.out.numel())
    return None


def _scaled(call: Call, x: Tensor, factor: Fraction) -> Alphabet | None:
    alphabet = call.alphabet(x)
    if alphabet is None and abs(factor) != 1:
        call.count(mults=call.out.numel())
    return None if alphabet is None else call.exact(alphabet.scale(factor), _times(factor, call.formula_of(x)))


def _times(factor: Fraction, formula: Formula) -> Formula:
    return Formula.number(factor).times(formula)


@counts("div")
def div(call: Call) -> Alphabet | None:
    if call.arg(2, "rounding_mode") is not None:
        call.count(other=call.out.numel())
        return None
    divisor = call.number(call.args[1])
    if divisor:
        return _scaled(call, call.args[0], 1 / as_fraction(divisor))
    call.count(mults=call.out.numel())
    return None


@counts("neg")
def neg(call: Call) -> Alphabet | None:
    return _scaled(call, call.args[0], Fraction(-1))


@counts("relu", "clamp", "clamp_min", "clamp_max", "hardtanh")
def clamp(call: Call) -> Alphabet | None:
    x = call.args[0]
    bound = 1 if call.name == "hardtanh" else None
    low: Any = call.arg(1, "min", bound and -bound)
    high: Any = call.arg(2, "max", bound)
    if call.name == "relu":
        low = 0
    if call.name == "clamp_max":
        low, high = None, low if low is not None else high
    alphabet = call.alphabet(x)
    if isinstance(low, Tensor) or isinstance(high, Tensor) or alphabet is None:
        call.count(comparisons=x.numel() * ((low is not None) + (high is not None)))
        return None
    clipped = alphabet.clipped(low, high)
    if clipped != alphabet:
        call.count(comparisons=x.numel())
    return clipped


@counts("maximum", "minimum")
def extremum(call: Call) -> Alphabet | None:
    """The elementwise maximum or minimum of two: comparisons; of spikes coincidences (on {0,1} they are OR and AND)."""
    spikes_a, spikes_b = call.alphabet(call.args[0]), call.alphabet(call.args[1])
    if spikes_a and spikes_b:
        call.count(ands=int(((call.steps(call.args[0]) != 0) & (call.steps(call.args[1]) != 0)).count_nonzero()))
        return spikes_a.join(spikes_b)
    call.count(comparisons=call.out.numel())
    return None


@counts("logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor", on_integers=True)
def logic(call: Call) -> Alphabet | None:
    a, b = call.args[0], call.arg(1, "other")
    both = a.bool() & b.bool() if isinstance(b, Tensor) else a.bool()
    call.count(ands=int(both.count_nonzero()))
    return None


@counts("ge", "gt", "le", "lt", "eq", "ne", "isnan", "isfinite", "isinf")
def compare(call: Call) -> Alphabet | None:
    call.count(comparisons=call.out.numel())
    return None


@counts("heaviside")
def heaviside(call: Call) -> Alphabet | None:
    """A threshold at zero: a comparison an element. The result is 0, 1, or where x is zero the second argument's value."""
    call.count(comparisons=call.out.numel())
    at_zero = call.args[1]
    value = call.number(at_zero)
    alphabet = Alphabet.constant(value) if value is not None else call.alphabet(at_zero)
    return BINARY.join(alphabet) if alphabet else None


@counts("_prelu_kernel")
def prelu(call: Call) -> Alphabet | None:
    """A comparison and a multiplication an element; spikes that are never negative pass as they are."""
    alphabet = call.alphabet(call.args[0])
    call.count(comparisons=call.out.numel())
    if alphabet is not None and alphabet.low >= 0:
        return alphabet
    call.count(mults=call.out.numel())
    return None


@counts("lerp")
def lerp(call: Call) -> Alphabet | None:
    """``a + weight * (b - a)``: two additions and a multiplication an element. Of two spike tensors, with a number for
    weight, the sum of two scaled spike tensors: an addition where both fire."""
    a, b, weight = call.args[0], call.args[1], call.args[2]
    number = call.number(weight)
    spikes_a, spikes_b = call.alphabet(a), call.alphabet(b)
    if number is not None and spikes_a and spikes_b:
        factor = as_fraction(number)
        call.count(adds=int(((call.steps(a) != 0) & (call.steps(b) != 0)).count_nonzero()))
        formula = _times(1 - factor, call.formula_of(a)).plus(_times(factor, call.formula_of(b)))
        return call.exact(spikes_a.scale(1 - factor).plus(spikes_b.scale(factor)), formula)
    call.count(adds=2 * call.out.numel(), mults=call.out.numel())
    return None
