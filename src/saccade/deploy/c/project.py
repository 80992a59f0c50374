"""A folder with a program in C: sources, self-test, and what build systems and boards want to see."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from saccade.deploy.c import text
from saccade.deploy.c.layout import bytes_of, size_of
from saccade.deploy.c.text import Source
from saccade.deploy.c.writer import Function
from saccade.deploy.program import Program

# Where each template goes
FILES = {
    "net.h": "src/{name}.h",
    "net.c": "src/{name}.c",
    "tables.h": "src/{name}_tables.h",
    "selftest.c": "test/selftest.c",
    "golden.h": "test/golden.h",
    "Makefile": "Makefile",
    "CMakeLists.txt": "CMakeLists.txt",
    "zephyr-module.yml": "zephyr/module.yml",
    "zephyr-CMakeLists.txt": "zephyr/CMakeLists.txt",
    "zephyr-Kconfig": "zephyr/Kconfig",
    "library.properties": "library.properties",
    "Blink.ino": "examples/Blink/Blink.ino",
    "start.c": "bare/start.c",
    "mps2.ld": "bare/mps2.ld",
    "README.md": "README.md",
}
RECORD = "network.json"  # what the binding reads
SAMPLES = 2  # of the self-test, where none are given


def write_c(s: Source, out: str | os.PathLike[str], samples: npt.NDArray[Any] | None = None) -> dict[str, int]:
    """Write a program's C into a folder. samples: inputs of the self-test, ``[N, C, H, W]`` or ``[T, N, C, H, W]`` (default:
    patterns). Returns how many spikes (levels) each layer of neurons makes of them, by path.

    Raises ValueError for samples that the program does not take.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    program = s.program
    if samples is None:
        samples = patterns(program)
    seen, golden = _golden(s, samples)
    lines = text.answer_lines(s)
    w, first = s.writer, program.wires[0]
    wires = [(f"x{i}", w.views[term.wire]) for i, term in enumerate(program.outputs)]
    layers = {layer.wire: i for i, layer in enumerate(s.layers)}
    functions = s.plan.functions

    def seen_by(f: Function, indent: str) -> str:
        return f"\n{indent}SEEN({layers[f.wire]}, {text.place(s, f.wire, f.writes)})"

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    frames = size_of(first.shape) * (program.T if program.sequence else 1)
    values = {
        **golden,
        **{key: getattr(s, key) for key in ("name", "program", "plan", "writer", "answer", "layers")},
        "NAME": s.name.upper(),
        "input": first,
        "input_kind": w.buffers[0].kind,
        "input_shape": list(first.shape),
        "input_size": size_of(first.shape),
        "frames": frames,
        "logits": text.logit_count(s),
        "neurons": sum(size_of(layer.shape) for layer in s.layers),
        "functions": functions,
        "any_of_four": any("any_of_four" in line for f in functions for line in f.body),
        "tables": w.tables,
        "answer_lines": lines,
        "answer_declared": ", ".join(f"const {view.kind} *restrict {name}" for name, view in wires),
        "answer_given": ", ".join(text.place(s, view.buffer, view.by_step) for _, view in wires),
        "said": lambda f: text.wrapped(text.said(s, f)),
        "table_said": lambda table: text.wrapped(_whose(s, table)),
        "function_name": lambda f: text.function_name(s, f),
        "declared": lambda f: text.declared(s, f),
        "arguments": lambda f: text.arguments(s, f),
        "seen": lambda f, indent: seen_by(f, indent) if f.wire in layers else "",
        "arena_kinds": sorted({"int64_t", *(w.buffers[wire].kind for wire in s.plan.arena)}, key=bytes_of),
        "member": text.member,
        "layered": s.layered,
        "kept_place": lambda f: text.place(s, -f.wire),
        "initialiser": text.initialiser,
        "comment": lambda path: path.replace("*/", "* /"),
        "classes": text.wrapped(", ".join(program.classes)),
        "quoted": lambda path: json.dumps(path, ensure_ascii=True)[1:-1],
        "size_of": size_of,
        "bytes_of": bytes_of,
    }
    folder = Path(out)
    for template, target in FILES.items():
        path = folder / target.format(name=s.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(environment.get_template(template).render(values))
    record = {
        "name": s.name,
        "T": program.T,
        "sequence": program.sequence,
        "last": program.last,
        "streams": s.plan.streams,
        "input": [list(first.shape), first.low, first.high, w.buffers[0].kind],
        "logits": [list(s.answer.shape), s.answer.bits, s.answer.error],
        "classes": list(program.classes),
        "layers": [[layer.path, layer.kind, list(layer.shape), list(layer.order), layer.once] for layer in s.layers],
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    return seen


def _whose(s: Source, table: text.Table) -> str:
    if not re.match(r"w\d+_", table.name):
        return f"{table.name}: {table.says}"
    wire = int(table.name[1:].split("_")[0])
    if wire == len(s.program.wires):
        return f"{table.name}: {table.says}"
    path = s.program.wires[wire].path or text.for_whom(s.program, wire)
    return f"{table.name}: {table.says}; {s.program.operations[wire - 1].name} for {path or 'the answer'}"


def patterns(program: Program) -> npt.NDArray[Any]:
    """Inputs without pictures at hand: smooth waves of several lengths, from a fixed seed, over the whole range."""
    wire = program.wires[0]
    draw = np.random.default_rng(0)
    steps = program.T if program.sequence else 1
    *lead, height, width = wire.shape if len(wire.shape) >= 2 else (1, *wire.shape)
    y, x = np.mgrid[0:height, 0:width]
    shape = (steps, SAMPLES, *lead)
    angle, phase = draw.uniform(0, 2 * np.pi, (2, *shape, 1, 1))
    length = draw.uniform(3, 12, (*shape, 1, 1))
    wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / length + phase) * 0.5 + 0.5
    found = np.rint(wire.low + wave * (wire.high - wire.low)).astype(np.int64).reshape(steps, SAMPLES, *wire.shape)
    return found if program.sequence else found[0]


def _golden(s: Source, samples: npt.NDArray[Any]) -> tuple[dict[str, int], dict[str, Any]]:
    """What the interpreter makes of some inputs: levels by layer, and their marks by place; logits in whole numbers."""
    program = s.program
    found = program.trace(samples)
    count = found[0].shape[1]
    if program.sequence and len(samples) != program.T:
        raise ValueError(f"the self-test takes sequences of {program.T} steps; got {len(samples)}")
    sums, marks = np.zeros((2, count, len(s.layers)), np.uint32)
    seen: dict[str, int] = {}
    for i, layer in enumerate(s.layers):
        levels = found[layer.wire].transpose(0, 1, *(axis + 2 for axis in layer.order)).astype(np.uint32)
        flat = levels.reshape(*levels.shape[:2], -1)
        weight = np.arange(1, flat.shape[2] + 1, dtype=np.uint32) * np.uint32(2654435761)
        for step in flat:
            sums[:, i] += step.sum(1, dtype=np.uint32)
            marks[:, i] = marks[:, i] * np.uint32(31) + (step * weight).sum(1, dtype=np.uint32)
        seen[layer.path] = seen.get(layer.path, 0) + int(sums[:, i].sum())
    steps = np.broadcast_to(text.whole_logits(s.answer, program, found), (program.T, count, *s.answer.shape))
    logits = (steps[-1] if program.last else steps.sum(0)).reshape(count, -1)
    given = np.moveaxis(samples, 1, 0) if program.sequence else samples
    kind = s.writer.buffers[0].kind
    return seen, {
        "samples": count,
        "inputs": [text.numbers(one, kind) for one in given],
        "sums": [", ".join(map(str, row)) for row in sums],
        "marks": [", ".join(map(str, row)) for row in marks],
        "golden_logits": [", ".join(map(text.literal, row)) for row in logits.tolist()],
    }
