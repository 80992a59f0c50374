"""When operations run and where wires lie in memory, and what a program needs in all: known before anything is compiled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from saccade.deploy.c.writer import Function, Writer
from saccade.deploy.operations.gates import Collect
from saccade.deploy.program import Program

ALIGN = 8  # bytes of the largest number
CODE = (400, 220)  # bytes of code of a program, and of an operation: about, on a Cortex-M3 by gcc -O2


@dataclass(frozen=True)
class Phase:
    """Operations on what stands still, which run once, and then those of every step. What looks at a whole sequence begins
    another phase."""

    once: tuple[Function, ...]
    each: tuple[Function, ...]


@dataclass(frozen=True)
class Plan:
    """arena: wires by where they begin in the memory that they share; in a run of several phases also what neurons keep, under
    the wire's number below 0."""

    phases: tuple[Phase, ...]
    arena: dict[int, int]
    arena_bytes: int
    state_bytes: int
    constant_bytes: int

    @property
    def functions(self) -> list[Function]:
        """In the order in which they run."""
        return [function for phase in self.phases for function in (*phase.once, *phase.each)]

    @property
    def streams(self) -> bool:
        """Whether steps can be given one by one."""
        return len(self.phases) == 1

    @property
    def ram(self) -> int:
        """Bytes that a run needs, but for the stack."""
        return self.arena_bytes + self.state_bytes + ALIGN

    @property
    def code_bytes(self) -> int:
        """About; the constants are exact."""
        return CODE[0] + CODE[1] * len(self.functions)

    @property
    def flash(self) -> int:
        return self.constant_bytes + self.code_bytes


def phases(program: Program, ending: frozenset[int]) -> list[int]:
    """Of each wire, in which phase it is made. ending: wires that are read in later phases alone."""
    found, ready = [0], [0]
    for number, operation in enumerate(program.operations, 1):
        looks_back = isinstance(operation, Collect)
        found.append(max([0, *(max(ready[i], found[i] + looks_back) for i in operation.inputs)]))
        ready.append(found[-1] + (number in ending))
    return found


def layers_of(w: Writer) -> frozenset[int]:
    """The wires of what keeps something from step to step: layer by layer, a phase ends with each."""
    return frozenset(f.wire for f in w.functions if f.state)


def crossing(w: Writer, ending: frozenset[int]) -> frozenset[int]:
    """Wires with memory of their own that differ from step to step and are read in a later phase."""
    phase, timed = phases(w.program, ending), w.program.timed()
    found = set()
    last = max(phase[term.wire] for term in w.program.outputs)
    reads = [(i, phase[number]) for number, operation in enumerate(w.program.operations, 1) for i in operation.inputs]
    for wire, when in [*reads, *((term.wire, last) for term in w.program.outputs)]:
        buffer = w.views[wire].buffer
        if when > phase[buffer] and timed[buffer]:
            found.add(buffer)
    return frozenset(found)


def plan(w: Writer, answers: Sequence[int], ending: frozenset[int] = frozenset()) -> Plan:
    """Of operations and the buffers from which answers are read. Wires that are not needed at the same time share memory: the
    largest are placed first, each as low as nothing that lives with it lies (Pisarchyk and Lee, 2020, greedy by size)."""
    timed, phase = w.program.timed(), phases(w.program, ending)
    made = tuple(
        Phase(
            tuple(f for f in w.functions if phase[f.wire] == number and not timed[f.wire]),
            tuple(f for f in w.functions if phase[f.wire] == number and timed[f.wire]),
        )
        for number in range(max(phase) + 1)
    )
    used = _lives(w, made, answers)
    arena: dict[int, int] = {}
    for wire in sorted(used, key=lambda wire: -w.buffers[wire].bytes):
        start, size = 0, w.buffers[wire].bytes
        for other in sorted(arena, key=lambda other: arena[other]):
            together = used[other][0] <= used[wire][1] and used[wire][0] <= used[other][1]
            if together and arena[other] < start + size:
                start = max(start, _aligned(arena[other] + w.buffers[other].bytes))
        arena[wire] = start
    size = max((_aligned(start + w.buffers[wire].bytes) for wire, start in arena.items()), default=0)
    kept = sum(_aligned(state.bytes) for state in w.states) if len(made) == 1 else 0
    return Plan(made, dict(sorted(arena.items())), size, kept, sum(table.bytes for table in w.tables))


def _lives(w: Writer, made: Sequence[Phase], answers: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Of each wire with memory, from when to when it is needed, in places of the functions in order. Within the steps of a
    phase all functions come again: what is read there and not made anew each step is needed to their end."""
    begins: dict[int, int] = {}
    ends: dict[int, int] = {}
    at = 0
    for number, phase in enumerate(made):
        loop, stop = at + len(phase.once), at + len(phase.once) + len(phase.each)
        last = max(stop - 1, at)  # of this phase
        fresh = {f.wire for f in phase.each} - w.stored
        for f in (*phase.once, *phase.each):
            in_loop = at >= loop
            begins[f.wire] = loop if f.wire in w.stored else at
            ends[f.wire] = last if f.wire in w.stored else at
            if f.state and len(made) > 1:
                begins[-f.wire], ends[-f.wire] = loop, last
            for _, buffer, _ in f.reads:
                if buffer:
                    ends[buffer] = max(ends[buffer], last if in_loop and buffer not in fresh else at)
            at += 1
        if number == len(made) - 1:
            for buffer in answers:
                if buffer:
                    ends[buffer] = stop
    return {wire: (begins[wire], ends[wire]) for wire in begins}


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
        f"wire {wire} ({w.buffers[wire].kind} x {w.buffers[wire].count})": w.buffers[wire].bytes
        for wire in found.arena
        if wire > 0
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
