"""Counting rules of elementwise arithmetic, comparisons and logic."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from torch import Tensor

from saccade.measure.alphabet import Alphabet, as_fraction, exact_sum
from saccade.measure.call import Call


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
        return spikes_a.scale(sign_a).plus(spikes_b.scale(sign_b))
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
    return None if alphabet is None else alphabet.scale(sign).plus(Alphabet.constant(float(shift)))


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
        return spikes_a.times(spikes_b)
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
    return None if alphabet is None else alphabet.scale(factor)


def div(call: Call) -> Alphabet | None:
    if call.arg(2, "rounding_mode") is not None:
        call.count(other=call.out.numel())
        return None
    divisor = call.number(call.args[1])
    if divisor:
        return _scaled(call, call.args[0], 1 / as_fraction(divisor))
    call.count(mults=call.out.numel())
    return None


def neg(call: Call) -> Alphabet | None:
    return _scaled(call, call.args[0], Fraction(-1))


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


def extremum(call: Call) -> Alphabet | None:  # elementwise maximum or minimum of two; on {0,1}: OR, AND
    spikes_a, spikes_b = call.alphabet(call.args[0]), call.alphabet(call.args[1])
    if spikes_a and spikes_b:
        call.count(ands=int(((call.steps(call.args[0]) != 0) & (call.steps(call.args[1]) != 0)).count_nonzero()))
        return spikes_a.join(spikes_b)
    call.count(comparisons=call.out.numel())
    return None


def logic(call: Call) -> Alphabet | None:
    a, b = call.args[0], call.arg(1, "other")
    both = a.bool() & b.bool() if isinstance(b, Tensor) else a.bool()
    call.count(ands=int(both.count_nonzero()))
    return None


def compare(call: Call) -> Alphabet | None:
    call.count(comparisons=call.out.numel())
    return None
