"""Where wires lie in memory, and what a program needs in all: known before anything is compiled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from saccade.deploy.c.writer import Function, Writer

ALIGN = 8  # bytes of the largest number
CODE = (400, 220)  # bytes of code of a program, and of an operation: about, on a Cortex-M3 by gcc -Os


@dataclass(frozen=True)
class Plan:
    """once, each: operations that run in the first step only, because what they read stands still, and in every step. arena:
    wires by where they begin in the memory that they share. held: wires that the first step makes for all."""

    once: tuple[Function, ...]
    each: tuple[Function, ...]
    arena: dict[int, int]
    held: tuple[int, ...]
    arena_bytes: int
    state_bytes: int
    constant_bytes: int

    @property
    def ram(self) -> int:
        """Bytes that a run needs, but for the stack."""
        return self.arena_bytes + self.state_bytes + ALIGN

    @property
    def code_bytes(self) -> int:
        """About; the constants are exact."""
        return CODE[0] + CODE[1] * (len(self.once) + len(self.each))

    @property
    def flash(self) -> int:
        return self.constant_bytes + self.code_bytes


def plan(w: Writer, answers: Sequence[int]) -> Plan:
    """Of operations and the buffers from which answers are read. Wires that are not needed at the same time share memory: the
    largest are placed first, each as low as nothing that lives with it lies (Pisarchyk and Lee, 2020, greedy by size)."""
    timed = w.program.timed()
    once = tuple(f for f in w.functions if not timed[f.wire])
    each = tuple(f for f in w.functions if timed[f.wire])
    used: dict[int, list[int]] = {f.wire: [i, i] for i, f in enumerate((*once, *each))}
    for i, f in enumerate((*once, *each)):
        for _, buffer in f.reads:
            if buffer:
                used[buffer][1] = i
    for buffer in answers:
        if buffer:
            used[buffer][1] = len(used)
    still = len(once)
    held = tuple(wire for wire, (first, last) in used.items() if first < still <= last)
    arena: dict[int, int] = {}
    for wire in sorted(used.keys() - set(held), key=lambda wire: -w.buffers[wire].bytes):
        first, last = used[wire]
        start = 0
        for other in sorted(arena, key=lambda other: arena[other]):
            alive = used[other][0] <= last and first <= used[other][1]
            if alive and arena[other] < start + w.buffers[wire].bytes:
                start = max(start, _aligned(arena[other] + w.buffers[other].bytes))
        arena[wire] = start
    size = max((_aligned(start + w.buffers[wire].bytes) for wire, start in arena.items()), default=0)
    kept = sum(_aligned(state.bytes) for state in w.states) + sum(_aligned(w.buffers[wire].bytes) for wire in held)
    constants = sum(table.bytes for table in w.tables)
    return Plan(once, each, dict(sorted(arena.items())), held, size, kept, constants)


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def parse_fits(text: str) -> tuple[int, int]:
    """``RAM,FLASH`` in bytes, k (1024) or M. Raises ValueError for anything else."""
    found = re.fullmatch(r"(\d+)([kKM]?),(\d+)([kKM]?)", text.replace(" ", ""))
    if not found:
        raise ValueError(f"--fits takes RAM,FLASH such as 64k,512k; got {text!r}")
    units = {"": 1, "k": 1 << 10, "K": 1 << 10, "M": 1 << 20}
    return int(found[1]) * units[found[2]], int(found[3]) * units[found[4]]


def check_fits(w: Writer, found: Plan, ram: int, flash: int) -> None:
    """Raises ValueError naming what is too large, and the largest part of it."""
    wires = w.program.wires
    parts = {f"{state.says} of {wires[int(state.name[4:])].path}": state.bytes for state in w.states}
    parts |= {
        f"wire {wire} ({w.buffers[wire].kind} x {w.buffers[wire].count})": w.buffers[wire].bytes for wire in found.arena
    }
    for what, needed, given, most in (
        ("RAM", found.ram, ram, parts),
        ("flash", found.flash, flash, {f"table {table.name}": table.bytes for table in w.tables}),
    ):
        if needed > given:
            largest = max(most, key=lambda name: most[name]) if most else "code"
            raise ValueError(
                f"needs {needed:,} bytes of {what} and {given:,} are given; the largest part is {largest}, "
                f"{most.get(largest, 0):,} bytes"
            )
