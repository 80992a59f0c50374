"""Neurons: comparisons with thresholds, potentials that are kept, mixings of the past."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saccade.deploy.c.layout import View, bytes_of, c_type, size_of, wide_type
from saccade.deploy.c.writer import Parameter, Writer, cast, literal, writes_c
from saccade.deploy.operations.membrane import FARTHEST, Membrane
from saccade.deploy.operations.mixing import Mix
from saccade.deploy.operations.quantized_membrane import StoredMembrane
from saccade.deploy.operations.thresholds import Thresholds
from saccade.deploy.values import Integers

EVER = 1 << 12  # steps after which a potential that still grows is said to grow for ever


def _clipped(array: Integers, low: int, high: int) -> Integers:
    """Thresholds brought as near as what they are compared with comes: those out of reach stay so."""
    return np.clip(array, low, high + 1)


def _reached(number: str, compared: list[str]) -> str:
    """How many of the thresholds a number reaches."""
    return " + ".join(f"({number} >= {threshold})" for threshold in compared)


def _thresholds(w: Writer, thresholds: Integers, shape: tuple[int, ...]) -> list[Parameter]:
    """A parameter a level."""
    return [
        w.parameter(f"threshold{level + 1}", one, shape, f"of level {level + 1}")
        for level, one in enumerate(thresholds)
    ]


@writes_c(Thresholds)
def thresholds(w: Writer, op: Thresholds) -> View:
    (x,) = w.reads(op)
    y, (low, high) = w.result_like([x]), w.ends(op)
    most = max(abs(low), abs(high))
    wide = wide_type(-most - 1, most + 1)
    sign = w.parameter("sign", op.sign, y.shape, "-1 where a norm turns the sign")
    levels = _thresholds(w, _clipped(op.thresholds, -most, most), y.shape)

    def body(index: dict[str, str]) -> list[str]:
        number = f"x[{index['x']}]" if sign.text == "1" else f"{sign.at(index)} * x[{index['x']}]"
        if wide == "int64_t" and sign.text != "1":
            number = f"(int64_t){number}"
        reached = _reached("u", [level.at(index) for level in levels])
        return [f"const {wide} u = {number};", f"y[{index['y']}] = {cast(y.kind, reached)};"]

    w.function(w.over(y, {"x": x}, [sign, *levels], body), {"x": x}, f"levels 0 to {len(levels)} by comparisons")
    return y


@dataclass(frozen=True)
class Potentials:
    """Between what potentials lie: on the way to where they are compared, there, and as they are kept. It holds for so many
    steps from rest (None: for ever)."""

    ever: tuple[int, int]
    compared: tuple[int, int]
    kept: tuple[int, int]
    steps: int | None


def potentials(op: Membrane, low: int, high: int, steps: int | None) -> Potentials:
    """Of a membrane whose input lies in ``low .. high``, by intervals of each place, over so many steps from rest (None: until
    nothing grows any more, at most ``EVER``)."""
    half = (1 << op.shift) >> 1
    drives = np.stack([op.factor * low, op.factor * high])
    levels = np.sort(op.thresholds, axis=0)
    least, most, amount, *_ = np.broadcast_arrays(
        drives.min(0) + op.offset, drives.max(0) + op.offset, op.amount, levels[0], op.decay
    )
    kept_low, kept_high = np.zeros_like(least), np.zeros_like(most)
    ever, compared, kept = (0, 0), (0, 0), (0, 0)
    for step in range(steps or EVER):
        scaled = (kept_low * op.decay + half, kept_high * op.decay + half)
        before = ((scaled[0] >> op.shift) + least, (scaled[1] >> op.shift) + most)
        compared = _hull(compared, *before)
        ever = _hull(ever, *scaled, *before)
        if max(-ever[0], ever[1]) >= FARTHEST:
            return Potentials(ever, compared, kept, step)
        after = [*before] if op.reset == "none" else []
        edges = [before[0], *levels, np.maximum(before[1], levels[-1]) + 1]
        for level in range(len(levels) + 1 if op.reset != "none" else 0):
            # the potentials that make this level, if there are any, and where the reset takes them
            start, stop = np.maximum(edges[level], before[0]), np.minimum(edges[level + 1] - 1, before[1])
            taken = level * amount
            to = (amount, amount) if op.reset == "hard" and level else (start - taken, stop - taken)
            after += [np.where(start <= stop, end, kept_low) for end in to]
        ever = _hull(ever, *after)
        after = [op.after(end) for end in after]
        grown = (np.minimum.reduce([kept_low, *after]), np.maximum.reduce([kept_high, *after]))
        if np.array_equal(grown[0], kept_low) and np.array_equal(grown[1], kept_high):
            return Potentials(ever, compared, kept, None)
        kept_low, kept_high = grown
        kept = _hull(kept, *grown)
    return Potentials(ever, compared, kept, steps or EVER)


def _hull(ends: tuple[int, int], *arrays: Integers) -> tuple[int, int]:
    """The range that holds another range and all numbers of some arrays."""
    return min(ends[0], *(int(array.min()) for array in arrays)), max(ends[1], *(int(array.max()) for array in arrays))


@writes_c(Membrane, StoredMembrane)
def membrane(w: Writer, op: Membrane) -> View:
    (x,), (low, high) = w.reads(op), w.ends(op)
    y = w.result_like([x])
    found = potentials(op, low, high, w.steps)
    w.limit(found.steps)
    near = _clipped(op.thresholds, *found.compared)
    wide = wide_type(*_hull(found.ever, near, op.amount, len(near) * op.amount, op.factor, op.offset))
    kind = c_type(*found.kept)
    state = w.state(kind, size_of(y.shape), "potentials")
    factor = w.parameter("factor", op.factor, y.shape, "what a 1 of the input adds")
    offset = w.parameter("offset", op.offset, y.shape, "what each step adds")
    decay = w.parameter("decay", op.decay, y.shape, "decay")
    amount = w.parameter("amount", op.amount, y.shape, f"of the {op.reset} reset")
    levels = _thresholds(w, near, y.shape)

    few: list[Parameter] = []
    if isinstance(op, StoredMembrane):
        few = [edge, stored] = [
            w.parameter("edge", op.edges, y.shape, "from which on the next potential is stored", offset="k"),
            w.parameter("stored", op.stored, y.shape, "potentials that are stored", offset="k"),
        ]
        wide = wide_type(*_hull(found.ever, near, op.amount, op.factor, op.offset, op.edges, op.stored))

    def body(index: dict[str, str]) -> list[str]:
        place = index["y"]
        wider = f"({wide})" if wide == "int64_t" else ""
        u = f"{wider}kept[{place}]"
        if decay.text == "0":
            u = ""
        elif decay.text != "1":
            u = f"{u} * {decay.at(index)}"
        if u and op.shift:
            u = f"(({u} + {literal((1 << op.shift) >> 1)}) >> {op.shift})"
        added = f"{wider}x[{index['x']}]"
        if factor.text != "1":
            added = f"{added} * {factor.at(index)}"
        parts = [part for part in (u, added) if part]
        if offset.text != "0":
            parts.append(offset.at(index))
        lines = [f"{wide} u = {' + '.join(parts)};"]
        reached = _reached("u", [level.at(index) for level in levels])
        lines.append(f"const int level = {reached};")
        if op.reset == "hard":
            lines += ["if (level) {", f"    u = {amount.at(index)};", "}"]
        elif op.reset == "soft":
            lines.append(
                f"u -= level * {amount.at(index)};" if len(levels) > 1 else f"u -= level ? {amount.at(index)} : 0;"
            )
        if isinstance(op, StoredMembrane):
            lines += [
                "int k = 0;",
                f"while (k < {len(op.edges)} && u >= {edge.at(index)}) {{",
                "    k++;",
                "}",
                f"u = {stored.at(index)};",
            ]
        return [*lines, f"kept[{place}] = {cast(kind, 'u', wide)};", f"y[{place}] = {cast(y.kind, 'level')};"]

    reset = {"hard": "set back", "soft": "less the threshold", "none": "kept"}[op.reset]
    says = f"potentials of {8 * bytes_of(kind)} bits, {reset} after a spike"
    w.function(w.over(y, {"x": x}, [factor, offset, decay, amount, *levels, *few], body), {"x": x}, says, state)
    return y


@writes_c(Mix)
def mix(w: Writer, op: Mix) -> View:
    (x,), (low, high) = w.reads(op), w.ends(op)
    y, T = w.result_like([x]), len(op.taps)
    w.limit(T)
    count = size_of(y.shape)
    sums = np.abs(op.taps).sum(1).max() * max(abs(low), abs(high))
    wide = wide_type(-int(sums) - 1, int(sums) + 1)
    state = w.state(x.kind, T * count, f"the inputs of {T} steps")
    taps = w.table("taps", op.taps, "what a step adds to the steps after it: row of the step, column of the input")
    sign = w.parameter("sign", op.sign, y.shape, "-1 where a norm turns the sign")
    near = _clipped(op.thresholds, -int(sums), int(sums))
    level = w.parameter("threshold", near, y.shape, "of a step", offset="step")
    wider = f"({wide})" if wide == "int64_t" else ""

    def body(index: dict[str, str]) -> list[str]:
        signed = "sum" if sign.text == "1" else f"{sign.at(index)} * sum"
        return [
            f"{wide} sum = 0;",
            f"kept[{count} * step + {index['y']}] = x[{index['x']}];",
            "for (int before = 0; before <= step; before++) {",
            f"    sum += {wider}{taps}[{T} * step + before] * kept[{count} * before + {index['y']}];",
            "}",
            f"y[{index['y']}] = {cast(y.kind, f'{signed} >= {level.at(index)}')};",
        ]

    w.function(
        w.over(y, {"x": x}, [sign, level], body), {"x": x}, f"memory-free neurons over {T} steps", state, step=True
    )
    return y
