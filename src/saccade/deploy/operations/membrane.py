"""Neurons that keep a potential from step to step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from saccade.deploy.engine import Native
from saccade.deploy.lowering import Lowering, lowers
from saccade.deploy.operations.hold import held
from saccade.deploy.operations.thresholds import fired, levels, one_term
from saccade.deploy.program import Operation
from saccade.deploy.values import Affine, Integers, on_axis, shrunk
from saccade.graph import Node
from saccade.neurons import LIF, Integer
from saccade.neurons.spiking import Spiking

DECAY_BITS = 20
FARTHEST = 2.0**62


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
            found.append(level)
        return np.stack(found), v

    def native(self) -> Native:
        reset = ("hard", "soft", "none").index(self.reset)
        arrays = (self.factor, self.offset, self.decay, self.thresholds, self.amount)
        return Native("membrane", (self.shift, reset), arrays)


def _decay(decay: float) -> tuple[int, int]:
    """A factor and a shift: exact for powers of two."""
    exponent = -math.log2(decay) if decay > 0 else 0.0
    if decay == 0:
        return 0, 0
    if exponent == int(exponent):
        return 1, int(exponent)
    return round(decay * 2**DECAY_BITS), DECAY_BITS


def membrane(
    low: Lowering,
    node: Node,
    value: Affine,
    *,
    decay: float,
    thresholds: list[Any],
    reset: str,
    amount: Any,
    unit: float,
) -> Affine:
    """A recurrence on a value: ``u = decay v + value``, levels where u reaches thresholds (numbers, or arrays by place)."""
    value = one_term(low, value)
    sizes = [np.abs(np.asarray(number)).max() for number in (*thresholds, amount, value.offset, 1.0)]
    smallest = np.abs(value.terms[0].scale[value.terms[0].scale != 0]).min(initial=np.inf)
    largest = max(size for size in sizes if np.isfinite(size))
    # room for the sums of a few steps, and for thresholds in units of a channel that hardly counts
    if low.bits(value.terms[0].wire) + low.fraction > 52 or math.log2(max(largest / smallest, 1)) + low.fraction > 52:
        value = low.fixed(value)
    (wire, scale), offset = value.terms[0], value.offset
    # a channel's potential is divided by the size of its scale, so that a spike adds a whole number
    size = np.where(scale == 0, 1.0, np.abs(scale))
    one = 2.0**low.fraction / size

    def kept(number: Any) -> Integers:
        """What no potential reaches, all of which have at most 62 bits, is out of reach."""
        return shrunk(np.clip(number, -FARTHEST, FARTHEST)).astype(np.int64)

    level = [kept(np.ceil(np.round(np.asarray(theta) * one, 6))) for theta in thresholds]
    shape = np.broadcast_shapes(*(array.shape for array in level))
    factor = shrunk(np.sign(scale)).astype(np.int64) << low.fraction
    added: Integers = kept(np.rint(offset * one))
    multiplier, shift = _decay(decay)
    record = Membrane(
        (held(low, wire, value.steps),),
        factor,
        added,
        np.full((1,) * len(value.shape), multiplier, np.int64),
        shift,
        np.stack([np.broadcast_to(array, shape) for array in level]),
        reset,
        kept(np.rint(amount * one)),
    )
    before = low.wires[wire]
    drive = max(abs(before.low), abs(before.high)) * (1 << low.fraction) + int(np.abs(added).max())
    growth = 1 / (1 - decay) if decay < 1 else node.output.shape[0]
    if math.log2(max(drive * growth * max(multiplier, 1), 1)) > 62:
        raise ValueError("its potentials need more than 62 bits; fewer bits of fraction do")
    return fired(low, node, value, record, len(thresholds), unit)


def _by_channel(neuron: Any, value: Affine, node: Node) -> Any:
    """The thresholds of a LIF, as numbers or by place."""
    buffer = neuron._buffers.get("v_th")
    if buffer is None:
        return neuron.config.v_th
    axis = value.axis(neuron.channel_axis, len(node.inputs[0].shape))
    return on_axis(buffer.double().numpy(), axis, value.shape)


@lowers(LIF)
def lif(low: Lowering, node: Node) -> Affine:
    neuron: Any = node.module
    if type(neuron) is not LIF:
        raise ValueError(f"a {type(neuron).__name__} cannot be lowered; a rule can be added (saccade.deploy.lowers)")
    c, value = neuron._config, low.of(node.inputs[0])
    if value.lead != 2:
        raise ValueError("time and samples are one axis in its input")
    rate = 1 / neuron.tau()
    gain = rate if c.decay_input else 1.0
    v_th = _by_channel(neuron, value, node)
    amount = c.v_reset - c.v_rest if c.reset == "hard" else v_th
    if c.reset == "none":
        amount = 0.0
    # potentials are counted from rest; a soft reset takes v_th of them
    drive = value.times(gain)
    return membrane(
        low,
        node,
        drive,
        decay=1 - rate,
        thresholds=[np.asarray(v_th) - c.v_rest],
        reset=c.reset,
        amount=amount,
        unit=1.0,
    )


@lowers(Integer)
def integer(low: Lowering, node: Node) -> Affine:
    neuron: Any = node.module
    if type(neuron) is not Integer or neuron.config.dynamic:
        raise ValueError("levels that each sample chooses cannot be lowered")
    k = neuron.constants
    value = low.of(node.inputs[0]).times(k.gain)
    D = int(k.limit)
    if not k.stateful:
        return levels(low, node, value, D, k.divisor)
    steps = [level - 0.5 for level in range(1, D + 1)]
    return membrane(low, node, value, decay=k.decay, thresholds=steps, reset="soft", amount=1.0, unit=1 / k.divisor)


@lowers(Spiking)
def other(low: Lowering, node: Node) -> Affine:
    raise ValueError(f"a {type(node.module).__name__} cannot be lowered; a rule can be added (saccade.deploy.lowers)")
