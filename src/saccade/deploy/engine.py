"""The native engine: programs planned once, run without an allocation. The interpreter (``program.py``) defines results."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from saccade.deploy.values import Integers, Reals

if TYPE_CHECKING:
    from saccade.deploy.program import Program

ENGINES = ("auto", "native", "numpy")
_TYPES = {np.dtype(name) for name in ("u1", "i1", "i2", "i4", "i8", "f4", "f8", "?")}


class Native(NamedTuple):
    """An operation as the engine takes it: what native/engine knows it by, whole numbers, and arrays of int64."""

    kind: str
    numbers: tuple[int, ...] = ()
    arrays: tuple[Integers, ...] = ()


class Plans(dict[Any, Any]):
    """Plans of a program, by what they are for; a copy of the program makes its own."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Plans, ()


def module() -> Any:
    """The compiled engine. Raises ValueError where it is not there."""
    try:
        return importlib.import_module("saccade._engine")
    except ImportError as error:
        raise ValueError(f"the native engine is not built ({error}); programs run with engine='numpy'") from None


def plan(
    program: Program,
    T: int,
    *,
    fuse: bool = True,
    keep: bool = False,
    streams: bool = False,
    isa: str = "",
    kernel: str = "",
) -> Any:
    """A program planned for T steps. Raises ValueError for an operation that the engine has no form of, or no engine.

    fuse: sums that only a neuron reads are never stored. keep: all wires can be read afterwards. streams: potentials
    are kept from run to run. isa: "portable", "avx2", "avx512", "neon", "neon_dot"; by default SACCADE_ISA, else the
    widest. kernel: "events", "counts", "tables", "codebook" for the layers of spikes that have it, "dense", "winograd"
    for those of bytes; by default the fastest.
    """
    draft = module().Draft()
    timed = program.timed()
    for i, wire in enumerate(program.wires):
        operation = program.operations[i - 1] if i else None
        if operation and "native" not in vars(type(operation)):  # what computes otherwise says itself how
            raise ValueError(f"the native engine has no form of the operation {operation.name}")
        kind, numbers, arrays = operation.native() if operation else Native("input")
        inputs = list(operation.inputs) if operation else []
        steps = T if timed[i] else 1
        draft.add(kind, inputs, list(numbers), list(arrays), list(wire.shape), wire.low, wire.high, steps)
    shape = answer_shape(program)
    reads: list[int] = []
    for term in program.outputs:
        wire, read = program.wires[term.wire], term.wire
        if wire.shape != shape:
            read = len(program.wires) + len(reads)
            steps = T if timed[term.wire] else 1
            draft.add("expand", [term.wire], [], [], list(shape), wire.low, wire.high, steps)
        reads.append(read)
    scales = [_spread(term.scale, shape) for term in program.outputs]
    return draft.build(T, reads, scales, _spread(program.offset, shape), program.last, fuse, keep, streams, isa, kernel)


def _spread(value: Reals, shape: tuple[int, ...]) -> Reals:
    return np.ascontiguousarray(np.broadcast_to(value, shape), dtype=np.float64).reshape(-1)


def answer_shape(program: Program) -> tuple[int, ...]:
    """Of a step of a sample."""
    wires = [program.wires[term.wire].shape for term in program.outputs]
    return np.broadcast_shapes(program.offset.shape, *(term.scale.shape for term in program.outputs), *wires)


def planned(program: Program, engine: str, T: int, **settings: Any) -> Any:
    """The plan of a program for T steps, made once; None for the interpreter. Raises ValueError for an engine that is asked for
    and cannot be had."""
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    key = (T, *settings.items())
    found = program.plans.get(key)
    if found is None and engine != "numpy":
        try:
            found = plan(program, T, **settings)
        except ValueError as error:
            if engine == "native":
                raise
            found = str(error)
        program.plans[key] = found
    if isinstance(found, str):
        if engine == "native":
            raise ValueError(found)
        return None
    return None if engine == "numpy" else found


def run(program: Program, x: npt.NDArray[Any], engine: str, threads: int | None) -> Reals | None:
    """Logits; None where the interpreter has to give them."""
    sequence = program.sequence
    shape = program.wires[0].shape
    lead = 2 if sequence else 1
    if x.shape[lead:] != shape or not x.size:
        return None  # the interpreter says what is wrong
    T = x.shape[0] if sequence else program.T
    runner = planned(program, engine, T)
    if runner is None:
        return None
    if x.dtype not in _TYPES:
        x = program.taken(x) if sequence else program.taken(x)[0]
    found = np.empty((x.shape[lead - 1], *answer_shape(program)))
    good = runner.run(x, found, sequence, threads or torch.get_num_threads())
    return found if good else None


def trace(
    program: Program,
    x: npt.NDArray[Any],
    *,
    fuse: bool = True,
    isa: str = "",
    kernel: str = "",
    threads: int = 1,
) -> dict[int, Integers]:
    """Wires as the engine makes them, int64 ``[T or 1, N, ...]``: all of them, or with ``fuse`` those that are stored then.

    Raises ValueError as ``Program.run`` does, and for a program that the engine cannot run.
    """
    given = program.taken(x)
    runner = plan(program, len(given) if program.sequence else program.T, fuse=fuse, keep=True, isa=isa, kernel=kernel)
    given = given if program.sequence else given[0]
    axis = 1 if program.sequence else 0
    wires = [i for i in range(len(program.wires)) if runner.known(i)]
    found: dict[int, list[Integers]] = {i: [] for i in wires}
    answer = np.empty((1, *answer_shape(program)))
    for n in range(given.shape[axis]):
        runner.run(np.ascontiguousarray(given.take([n], axis)), answer, program.sequence, threads)
        for i in wires:
            value = np.empty(runner.shape(i), np.int64)
            runner.read(i, value)
            found[i].append(value[:, None])
    return {i: np.concatenate(values, 1) for i, values in found.items()}


class Stream:
    """A program over a sequence given in pieces ``[t, N, ...]``, natively: the steps' logits; potentials stay in the engine."""

    def __init__(self, program: Program, runner: Any) -> None:
        self.program, self.runner = program, runner
        self.kept, self.samples = module().Kept(), 0

    def __call__(self, x: npt.NDArray[Any]) -> Reals:
        """Logits ``[t, N, ...]`` of the next steps ``[t, N, C, H, W]``. Raises ValueError for what cannot be streamed."""
        given = self.program.taken(x)
        if self.samples not in (0, given.shape[1]):
            raise ValueError(f"the stream has {self.samples} samples; got {given.shape[1]}")
        self.samples = given.shape[1]
        found = np.empty((*given.shape[:2], *answer_shape(self.program)))
        for step, answer in zip(given, found, strict=True):
            self.runner.stream(step[None], answer[None], torch.get_num_threads(), self.kept)
        return found


def choices(program: Program) -> dict[int, str]:
    """How the engine makes each wire that it stores, for programs of the steps that they were lowered on: "events to 12 %,
    tables" are event rows for inputs that fire less. Raises ValueError where it cannot run the program."""
    found: dict[int, str] = {}
    for wire, how in plan(program, program.T).steps():
        if how != "prepare":
            found[wire] = f"{found[wire]}; {how}" if wire in found else how
    return found
