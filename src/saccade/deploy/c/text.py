"""The text of a program in C: declarations, tables, functions, what calls them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from saccade.deploy.c.layout import bytes_of, nest, packed_strides, size_of
from saccade.deploy.c.plan import Plan, crossing, layers_of, phases, plan
from saccade.deploy.c.writer import LOGIT_BITS, MOST_STEPS, Function, Table, Writer, literal
from saccade.deploy.lowering import LARGEST, bits_of
from saccade.deploy.program import Program
from saccade.deploy.values import Integers, Shape

KEYWORDS = frozenset(  # small words that C and C++ have taken
    (
        "auto bool break case catch char class const continue default delete do double else enum explicit "
        "export extern false float for friend goto if inline int long mutable namespace new operator private "
        "protected public register restrict return short signed sizeof static struct switch template this "
        "throw true try typedef typename union unsigned using virtual void volatile while "
    ).split()
)
LINE = 110  # characters of a line of numbers


@dataclass(frozen=True)
class Answer:
    """The logits in whole numbers of ``2**-bits``: ``(sum factor * wire + offset) >> after``. error: how far one of a step can
    be from the program's."""

    shape: Shape
    bits: int
    after: int
    factors: tuple[Integers, ...]
    offset: Integers
    error: float


@dataclass(frozen=True)
class Layer:
    """A wire of neurons: its path in the model, and how its levels lie in memory."""

    wire: int
    path: str
    kind: str
    shape: Shape
    order: tuple[int, ...]
    once: bool


@dataclass(frozen=True)
class Source:
    """A program as C: what the templates print."""

    name: str
    program: Program
    writer: Writer
    plan: Plan
    answer: Answer
    layers: tuple[Layer, ...]
    layered: bool = False


def source(program: Program, name: str, steps: int | None = None, layer_by_layer: bool = False) -> Source:
    """A program as C, under a name. steps: at most from rest, of a program for sequences (None: as many as are proven).
    layer_by_layer: all steps of a layer of neurons before the next layer; potentials then share memory, spikes of all steps are
    kept, and steps cannot be given one by one.

    Raises ValueError naming an operation that cannot be written.
    """
    import saccade.deploy.c.rules as rules
    from saccade.plugins import load_files_of

    load_files_of(rules.__name__)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in KEYWORDS:
        raise ValueError(
            f"a name in C is small letters, digits and _, beginning with a letter, and no word of the language; got {name!r}"
        )
    w = Writer(program, steps if program.sequence else program.T)
    ending = layers_of(w) if layer_by_layer else frozenset()
    stored = crossing(w, ending)
    w = Writer(program, program.T, stored, at_hand=True) if max(phases(program, ending)) else w
    found = plan(w, [w.views[term.wire].buffer for term in program.outputs], ending)
    if not found.streams:
        w.limit(program.T)
    once = {function.wire for phase in found.phases for function in phase.once}
    layers = tuple(
        Layer(i, wire.path, w.views[i].kind, wire.shape, w.views[i].order, i in once) for i, wire in program.named()
    )
    return Source(name, program, w, found, _answer(program), layers, layer_by_layer)


def _answer(program: Program) -> Answer:
    wires = [program.wires[term.wire] for term in program.outputs]
    scales = [term.scale for term in program.outputs]
    shape = np.broadcast_shapes(program.offset.shape, *(s.shape for s in scales), *(wire.shape for wire in wires))
    sizes = [max(abs(wire.low), abs(wire.high), 1) for wire in wires]
    parts = (np.abs(scale).max() * size for scale, size in zip(scales, sizes, strict=True))
    largest = float(np.abs(program.offset).max(initial=0)) + float(sum(parts))
    room = LARGEST - math.ceil(math.log2(max(largest, 2**-20)))  # bits behind the point of a number as large as a logit
    bits = min(LOGIT_BITS, room - MOST_STEPS.bit_length())
    if bits < 1:
        raise ValueError(f"its logits reach {largest:.3g}, which leaves no bits behind the point")
    after = room - 1 - bits
    factors = tuple(np.rint(np.ldexp(scale, bits + after)).astype(np.int64) for scale in scales)
    offset = np.rint(np.ldexp(program.offset, bits + after)).astype(np.int64)
    error = (1 + sum(sizes)) * 2.0 ** -(bits + after + 1) + 2.0 ** -(bits + 1)
    return Answer(shape, bits, after, factors, offset, error)


def whole_logits(answer: Answer, program: Program, found: list[Integers]) -> Integers:
    """Of each step, as the C computes them from the wires, ``[T or 1, N, ...]``."""
    terms = zip(answer.factors, program.outputs, strict=True)
    total: Integers = sum((factor * found[term.wire] for factor, term in terms), np.int64(0)) + answer.offset
    return (total + ((1 << answer.after) >> 1)) >> answer.after


def answer_lines(s: Source) -> list[str]:
    """Lines that write the logits of a step from the wires ``x0``, ``x1``, ...; tables are added to the writer's."""
    w, shape = s.writer, s.answer.shape
    w.number = len(s.program.wires)
    factors = [
        w.parameter(f"factor{i}", factor, shape, f"of a logit, in units of 2^-{s.answer.bits + s.answer.after}")
        for i, factor in enumerate(s.answer.factors)
    ]
    offset = w.parameter(
        "offset", s.answer.offset, shape, f"of a logit, in units of 2^-{s.answer.bits + s.answer.after}"
    )
    views = {f"x{i}": w.views[term.wire].spread(shape) for i, term in enumerate(s.program.outputs)}
    operands = {"y": packed_strides(shape), **{name: view.strides for name, view in views.items()}}
    operands |= {p.name: p.strides for p in (*factors, offset) if p.strides is not None}
    loops = nest(shape, operands, range(len(shape)))
    parts = []
    for (name, view), factor in zip(views.items(), factors, strict=True):
        index = f"{view.offset} + {loops.indices[name]}" if view.offset else loops.indices[name]
        parts.append(f"(int64_t){name}[{index}] * {factor.at(loops.indices)}")
    parts.append(offset.at(loops.indices))
    total = " + ".join(parts)
    if s.answer.after:
        total = f"({total} + {literal((1 << s.answer.after) >> 1)}) >> {s.answer.after}"
    return loops.around([f"logits[{loops.indices['y']}] = {total};"])


def function_name(s: Source, f: Function) -> str:
    return f"w{f.wire}_{s.program.operations[f.wire - 1].name}"


def place(s: Source, wire: int, by_step: int = 0) -> str:
    """The memory of a wire, in C; of one that is kept for all steps, that of the step."""
    step = f" + {by_step} * net->step" if by_step > 1 else " + net->step" if by_step else ""
    if wire == 0:
        return f"input{step}"
    kind, start = s.writer.buffers[wire].kind, s.plan.arena[wire]
    return f"net->arena.{member(kind)}" + (f" + {start // bytes_of(kind)}" if start else "") + step


def member(kind: str) -> str:
    """The arena as numbers of a type."""
    return kind[:-2].replace("uint", "u").replace("int", "i")


def arguments(s: Source, f: Function) -> str:
    """What a function is given in a call."""
    given = [place(s, buffer, by_step) for _, buffer, by_step in f.reads] + [place(s, f.wire, f.writes)]
    if f.state:
        given.append(f"net->{f.state}" if s.plan.streams else place(s, -f.wire))
    return ", ".join(given + (["net->step"] if f.step else []))


def declared(s: Source, f: Function) -> str:
    """The arguments of a function, as it declares them."""
    w = s.writer
    given = [f"const {w.buffers[buffer].kind} *restrict {name}" for name, buffer, _ in f.reads]
    given.append(f"{w.buffers[f.wire].kind} *restrict y")
    kept = next((state for state in w.states if state.name == f.state), None)
    given += [f"{kept.kind} *restrict kept"] if kept else []
    return ", ".join(given + (["int step"] if f.step else []))


def said(s: Source, f: Function) -> str:
    """A line about an operation: what it reads and makes, and of which neurons."""
    operation, program = s.program.operations[f.wire - 1], s.program
    wire = program.wires[f.wire]
    reads = ", ".join(f"{i}: {list(program.wires[i].shape)}" for i in operation.inputs)
    count = bits_of(wire.low, wire.high)
    bits = "1 bit" if count == 1 else f"{count} bits"
    whose = wire.path or (f"for {for_whom(program, f.wire)}" if for_whom(program, f.wire) else "for the answer")
    return f"{operation.name} {f.says}; {reads} -> {f.wire}: {list(wire.shape)}, {bits}; {whose}"


def for_whom(program: Program, wire: int) -> str:
    """The path of the first neurons that a wire leads to; "" for none."""
    reached = {wire}
    for number, operation in enumerate(program.operations, 1):
        if number > wire and reached & set(operation.inputs):
            if program.wires[number].path:
                return program.wires[number].path
            reached.add(number)
    return ""


def numbers(values: Integers, kind: str) -> str:
    """A table's numbers, in lines."""
    found: list[str] = []
    line = "   "
    for value in values.ravel().tolist():
        text = f" {literal(value) if kind.endswith('64_t') else value},"
        if value == -(2**31) and kind == "int32_t":
            text = " (-2147483647 - 1),"
        if len(line) + len(text) > LINE:
            found.append(line)
            line = "   "
        line += text
    return "\n".join([*found, line])


def initialiser(table: Table) -> str:
    return f"static const {table.kind} {table.name}[{table.values.size}] = {{\n{numbers(table.values, table.kind)}\n}};"


def wrapped(text: str, width: int = 100) -> str:
    """Words in lines of a comment in C."""
    words, lines = text.replace("*/", "* /").split(), [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n * ".join(lines)


def logit_count(s: Source) -> int:
    return size_of(s.answer.shape)
