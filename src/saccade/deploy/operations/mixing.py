"""Memory-free neurons: a mixing of the steps so far, and a threshold for each step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from saccade.deploy.engine import Native
from saccade.deploy.lowering import LARGEST, Lowering, lowers
from saccade.deploy.operations.hold import held
from saccade.deploy.operations.thresholds import fired, one_term, reached
from saccade.deploy.program import Operation, Wire, together
from saccade.deploy.values import Affine, Integers
from saccade.graph import Node
from saccade.neurons import Mixing

MOST_BITS = 32  # of a mixing that is exact
TAP_BITS = 24  # of another


@dataclass(frozen=True)
class Mix(Operation):
    """``fires[t] iff sign * sum_s taps[t, s] x[s] >= thresholds[t]``: taps ``[T, T]``, below the diagonal and on it."""

    name = "mix"
    mixes_time = True
    sign: Integers
    taps: Integers
    thresholds: Integers

    def made(self, *given: Wire) -> Wire:
        T = len(self.taps)
        if self.taps.shape != (T, T) or len(self.thresholds) != T:
            raise ValueError(f"taps {list(self.taps.shape)} and thresholds {list(self.thresholds.shape)}")
        if (np.abs(self.sign) != 1).any():
            raise ValueError("its signs are 1 and -1")
        size = max(-given[0].low, given[0].high)
        if size * max(sum(abs(int(tap)) for tap in row) for row in self.taps) >= 1 << LARGEST:
            raise ValueError(f"its history needs more than {LARGEST} bits; fewer weight_bits or bits of fraction do")
        return Wire(together(given, self.sign.shape, self.thresholds.shape[1:]), 0, 1)

    def step(self, state: Any, *given: Integers) -> tuple[Integers, Any]:
        T = len(self.taps)
        past = given[0][:0] if state is None else state
        first, known = len(past), np.concatenate([past, given[0]])
        if len(known) > T:
            raise ValueError(f"a mixing over {T} steps is given {len(known)}")
        found = []
        for t in range(first, len(known)):
            mixed = np.tensordot(self.taps[t, : t + 1], known[: t + 1], axes=1)
            found.append((self.sign * mixed >= self.thresholds[t]).astype(np.int64))
        return np.stack(found), known

    def native(self) -> Native:
        return Native("mix", (), (self.sign, self.taps, self.thresholds))


@lowers(Mixing)
def mix(low: Lowering, node: Node) -> Affine:
    neuron: Any = node.module
    value = one_term(low, low.of(node.inputs[0]))
    T = node.output.shape[0]
    if T > MOST_BITS:
        raise ValueError(f"the input has {T} steps; integers of 64 bits hold the history of {MOST_BITS}")
    mixing = neuron.mixing(T).detach().double().numpy()
    if mixing.ndim != 2:
        raise ValueError("a mixing for each channel cannot be lowered: per='layer' can")
    mantissa, exponent = np.frexp(mixing)
    bits = int(1 - exponent[mixing != 0].min(initial=1))
    room = LARGEST - 1 - low.bits(value.terms[0].wire) - math.ceil(math.log2(max(np.abs(mixing).sum(1).max(), 1)))
    if not np.isin(mantissa, (0, 0.5)).all() or bits >= MOST_BITS:
        bits = min(TAP_BITS, room)
        low.notes.append(f"{node.path}: its mixing is no row of powers of two and was rounded to {bits} bits")
    if not 0 <= bits <= room:
        raise ValueError(f"its history needs more than {LARGEST} bits; fewer weight_bits or bits of fraction do")
    taps, one = np.rint(np.ldexp(mixing, bits)).astype(np.int64), 2.0**bits
    (wire, scale), offset = value.terms[0], value.offset
    theta = np.broadcast_to(neuron.theta.detach().double().numpy(), T)
    scale, offset = np.broadcast_arrays(scale, offset)
    rows = [np.broadcast_to(reached(theta[t], scale / one, offset * mixing[t].sum()), scale.shape) for t in range(T)]
    sign = np.where(scale < 0, -1, 1).astype(np.int64)
    return fired(low, node.path, value, Mix((held(low, wire, T),), sign, taps, np.stack(rows)), 1.0, T)
