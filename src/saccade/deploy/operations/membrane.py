"""Neurons that keep a potential from step to step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from saccade.deploy.engine import Native
from saccade.deploy.lowering import Lowering, lowers
from saccade.deploy.operations.hold import held
from saccade.deploy.operations.thresholds import compared, fired, levels, one_term
from saccade.deploy.program import LARGEST, Operation, Wire, together
from saccade.deploy.values import Affine, Integers, magnitude, on_axis, shrunk
from saccade.graph import Node
from saccade.neurons import LIF, Integer, NoisyLIF
from saccade.neurons.spiking import Spiking

DECAY_BITS = 20
LEAST_FRACTION = 8
FARTHEST = 2.0**62
NO_LEAK_STEPS = 1024  # that potentials which never leak have room for, were each as large as can be


@dataclass(frozen=True)
class Membrane(Operation):
    """Whole potentials V, which begin at 0::

        V <- (V * decay + half) >> shift, plus factor * x + offset
        level: how many of the thresholds [D, ...] V reaches
        V <- reset_to ("hard", where it fired), V - level * amount ("soft"), V ("none")

    ``half`` is half of what the shift drops. With a decay of a power of two, decay is 1.
    """

    name = "membrane"
    mixes_time = True
    factor: Integers
    offset: Integers
    decay: Integers
    shift: int
    thresholds: Integers
    reset: str
    amount: Integers  # what "hard" resets to; what a level of "soft" takes

    def made(self, *given: Wire) -> Wire:
        if self.reset not in ("hard", "soft", "none") or not 0 <= self.shift <= LARGEST:
            raise ValueError(f"reset {self.reset!r}, shift {self.shift}")
        if self.largest(given[0]) * max(magnitude(self.decay), 1) >= 2.0**LARGEST:
            raise ValueError("its potentials need more than 62 bits; fewer bits of fraction do")
        arrays = (self.factor, self.offset, self.decay, self.amount)
        shape = together(given, *(a.shape for a in arrays), self.thresholds.shape[1:])
        return Wire(shape, 0, len(self.thresholds))

    def largest(self, x: Wire) -> float:
        """What no potential of a step exceeds in size; without a leak, in ``NO_LEAK_STEPS`` steps."""
        drive = max(-x.low, x.high) * magnitude(self.factor) + magnitude(self.offset)
        kept = magnitude(self.decay) / 2.0**self.shift
        bound = (drive + 1) * (1 / (1 - kept) if kept < 1 else NO_LEAK_STEPS)
        if self.reset == "none":
            return bound
        # what a reset leaves, where thresholds can be reached at all
        takes = np.arange(1, len(self.thresholds) + 1).reshape(-1, *[1] * (self.thresholds.ndim - 1))
        amount = self.amount.astype(np.float64)
        left = self.thresholds - takes * amount if self.reset == "soft" else amount
        return bound + float(np.abs(np.where(self.thresholds <= bound, left, 0)).max(initial=0))

    def after(self, v: Integers) -> Integers:
        """What is kept of the potentials after the reset."""
        return v

    def step(self, state: Any, *given: Integers) -> tuple[Integers, Any]:
        half = (1 << self.shift) >> 1
        v = np.zeros((), np.int64) if state is None else state
        found = []
        for x in given[0]:
            v = ((v * self.decay + half) >> self.shift) + self.factor * x + self.offset
            level = sum(((v >= theta).astype(np.int64) for theta in self.thresholds), np.zeros((), np.int64))
            if self.reset == "hard":
                v = np.where(level > 0, self.amount, v)
            elif self.reset == "soft":
                v = v - level * self.amount
            v = self.after(v)
            found.append(level)
        return np.stack(found), v

    def native(self) -> Native:
        reset = ("hard", "soft", "none").index(self.reset)
        arrays = (self.factor, self.offset, self.decay, self.thresholds, self.amount)
        return Native("membrane", (self.shift, reset), arrays)


Kept = Callable[[Membrane, Any], Membrane]


def _decay(decay: float) -> tuple[int, int]:
    """A factor and a shift: exact for powers of two."""
    exponent = -math.log2(decay) if decay > 0 else 0.0
    if decay == 0:
        return 0, 0
    if exponent == int(exponent):
        return 1, int(exponent)
    return round(decay * 2**DECAY_BITS), DECAY_BITS


def _fraction(low: Lowering, value: Affine) -> int:
    """Bits behind the point of potentials in units of a value's scale: with them a unit is 2^-fraction or less, and halves of a
    few steps stay whole."""
    largest = float(np.abs(value.terms[0].scale).max())
    return min(max(low.fraction + math.ceil(math.log2(largest or 1)), LEAST_FRACTION), low.fraction)


def membrane(
    low: Lowering,
    path: str,
    value: Affine,
    steps: int,
    *,
    decay: float,
    thresholds: list[Any],
    reset: str,
    amount: Any,
    unit: float,
    kept: Kept | None = None,
) -> Affine:
    """A recurrence on a value: ``u = decay v + value``, levels where u reaches thresholds (numbers, or arrays by place).

    kept: from the record, and how many units of its potentials a 1 is, to one that keeps something else between steps.
    """
    value = one_term(low, value)
    if steps == 1 and not low.timed[value.terms[0].wire]:  # one step from rest: there is nothing to keep
        return compared(low, path, value, thresholds, unit, steps)
    bits = _fraction(low, value)
    sizes = [np.abs(np.asarray(number)).max() for number in (*thresholds, amount, value.offset, 1.0)]
    smallest = np.abs(value.terms[0].scale[value.terms[0].scale != 0]).min(initial=np.inf)
    largest = max(size for size in sizes if np.isfinite(size))
    # room for the sums of a few steps, and for thresholds in units of a channel that hardly counts
    if low.bits(value.terms[0].wire) + bits > 52 or math.log2(max(largest / smallest, 1)) + bits > 52:
        value = low.fixed(value)
        bits = _fraction(low, value)
    (wire, scale), offset = value.terms[0], value.offset
    # a channel's potential is divided by the size of its scale, so that a spike adds a whole number
    size = np.where(scale == 0, 1.0, np.abs(scale))
    one = 2.0**bits / size

    def within(number: Any) -> Integers:
        """What no potential reaches, all of which have at most 62 bits, is out of reach."""
        return shrunk(np.clip(number, -FARTHEST, FARTHEST)).astype(np.int64)

    level = [within(np.ceil(np.round(np.asarray(theta) * one, 6))) for theta in thresholds]
    shape = np.broadcast_shapes(*(array.shape for array in level))
    factor = shrunk(np.sign(scale)).astype(np.int64) << bits
    added: Integers = within(np.rint(offset * one))
    multiplier, shift = _decay(decay)
    record = Membrane(
        (held(low, wire, value.steps),),
        factor,
        added,
        np.full((1,) * len(value.shape), multiplier, np.int64),
        shift,
        np.stack([np.broadcast_to(array, shape) for array in level]),
        reset,
        within(np.rint(amount * one)),
    )
    return fired(low, path, value, record if kept is None else kept(record, one), unit, steps)


def neurons(
    low: Lowering, neuron: Any, path: str, value: Affine, axis: int, steps: int, kept: Kept | None = None
) -> Affine:
    """What LIF neurons make of a value; axis: of its shape on which their channels lie."""
    c = neuron._config
    rate = 1 / neuron.tau()
    by_channel = neuron._buffers.get("v_th")
    v_th = c.v_th if by_channel is None else on_axis(by_channel.double().numpy(), axis, value.shape)
    amount = c.v_reset - c.v_rest if c.reset == "hard" else v_th
    if c.reset == "none":
        amount = 0.0
    # potentials are counted from rest; a soft reset takes v_th of them
    return membrane(
        low,
        path,
        value.times(rate if c.decay_input else 1.0),
        steps,
        decay=1 - rate,
        thresholds=[np.asarray(v_th) - c.v_rest],
        reset=c.reset,
        amount=amount,
        unit=1.0,
        kept=kept,
    )


@lowers(LIF)
def lif(low: Lowering, node: Node) -> Affine:
    neuron: Any = node.module
    quiet = isinstance(neuron, NoisyLIF) and not neuron.noisy  # its noise is that of training
    if type(neuron) is not LIF and not quiet:
        raise ValueError(f"a {type(neuron).__name__} cannot be lowered; a rule can be added (saccade.deploy.lowers)")
    value = low.of(node.inputs[0])
    if value.lead != 2:
        raise ValueError("time and samples are one axis in its input")
    axis = value.axis(neuron.channel_axis, len(node.inputs[0].shape)) if neuron._buffers.get("v_th") is not None else 0
    return neurons(low, neuron, node.path, value, axis, node.output.shape[0])


@lowers(Integer)
def integer(low: Lowering, node: Node) -> Affine:
    neuron: Any = node.module
    if type(neuron) is not Integer or neuron.config.dynamic:
        raise ValueError("levels that each sample chooses cannot be lowered")
    k = neuron.constants
    value = low.of(node.inputs[0]).times(k.gain)
    D, T = int(k.limit), node.output.shape[0]
    if not k.stateful:
        return levels(low, node, value, D, k.divisor)
    steps = [level - 0.5 for level in range(1, D + 1)]
    return membrane(
        low, node.path, value, T, decay=k.decay, thresholds=steps, reset="soft", amount=1.0, unit=1 / k.divisor
    )


@lowers(Spiking)
def other(low: Lowering, node: Node) -> Affine:
    raise ValueError(f"a {type(node.module).__name__} cannot be lowered; a rule can be added (saccade.deploy.lowers)")
