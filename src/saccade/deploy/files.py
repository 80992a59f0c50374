"""Programs in files: safetensors with the records as JSON."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saccade.deploy.program import OPERATIONS, Operation, Program, Wire
from saccade.deploy.values import Term
from saccade.files.tensors import read_metadata, read_tensors, write_tensors

FORMAT = "saccade-program-2"


def save_program(program: Program, path: str | os.PathLike[str]) -> None:
    """Write a program (aside, then renamed). Whole numbers take as few bytes as hold them."""
    tensors: dict[str, Tensor] = {"offset": torch.from_numpy(np.array(program.offset))}
    records = []
    for i, operation in enumerate(program.operations):
        records.append({"operation": operation.name, "settings": _settings(f"{i}", operation, tensors)})
    for i, term in enumerate(program.outputs):
        tensors[f"output.{i}"] = torch.from_numpy(np.array(term.scale))
    wires = [[list(wire.shape), wire.low, wire.high, wire.path] for wire in program.wires]
    settings = {name: getattr(program, name) for name in ("T", "unit", "last", "sequence", "notes")}
    reads = [term.wire for term in program.outputs]
    write_tensors(
        tensors, path, {"format": FORMAT, **settings, "wires": wires, "outputs": reads, "operations": records}
    )


def _settings(place: str, operation: Operation, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The fields of a record, arrays put among the tensors under its place and named by it."""

    def kept(name: str, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            tensors[f"{place}.{name}"] = torch.from_numpy(np.ascontiguousarray(_narrow(value)))
            return {"array": f"{place}.{name}"}
        if isinstance(value, tuple):
            return [kept(f"{name}.{i}", item) for i, item in enumerate(value)]
        return value

    return {name: kept(name, value) for name, value in {**operation.settings(), **operation.arrays()}.items()}


def _narrow(array: Any) -> Any:
    for kind in (np.int8, np.int16, np.int32):
        limits = np.iinfo(kind)
        if not array.size or (limits.min <= array.min() and array.max() <= limits.max):
            return array.astype(kind)
    return array


def load_program(path: str | os.PathLike[str]) -> Program:
    """Read a program. Raises ValueError in one line for anything that is none."""
    import saccade.deploy.operations as operations
    from saccade.plugins import load_files_of

    load_files_of(operations.__name__)
    metadata = read_metadata(path, (FORMAT,), "program file")
    tensors = read_tensors(path, "program file")

    def given(value: Any) -> Any:
        if isinstance(value, dict):
            return tensors[value["array"]].numpy().astype(np.int64)
        return tuple(given(item) for item in value) if isinstance(value, list) else value

    try:
        made = tuple(
            OPERATIONS[record["operation"]](**{name: given(value) for name, value in record["settings"].items()})
            for record in metadata["operations"]
        )
        wires = tuple(Wire(tuple(shape), low, high, name) for shape, low, high, name in metadata["wires"])
        terms = tuple(Term(wire, tensors[f"output.{i}"].numpy()) for i, wire in enumerate(metadata["outputs"]))
        settings = {name: metadata[name] for name in ("T", "unit", "last", "sequence")}
        program = Program(
            wires=wires,
            operations=made,
            outputs=terms,
            offset=tensors["offset"].numpy(),
            notes=tuple(metadata["notes"]),
            **settings,
        )
        _check(program)
        reads = [(i, made[i].inputs) for i in range(len(made))]
        if len(wires) != len(made) + 1 or any(not 0 <= wire <= i for i, inputs in reads for wire in inputs):
            raise ValueError("operations read wires that are not made before")
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError) as error:
        raise ValueError(f"{path}: its records are damaged ({type(error).__name__}: {error})") from None
    return program


def _check(program: Program) -> None:
    """Raises ValueError for what no program is."""
    counts = (program.T, *(number for wire in program.wires for number in (*wire.shape, wire.low, wire.high)))
    if any(type(number) is not int for number in counts) or not 1 <= program.T <= 1 << 16:
        raise ValueError("T, shapes and ranges are whole numbers")
    if any(
        wire.low > wire.high or min(wire.shape, default=1) < 1 or type(wire.path) is not str for wire in program.wires
    ):
        raise ValueError("a wire is empty, or its range is")
    if type(program.last) is not bool or type(program.sequence) is not bool or not 0 < program.unit < float("inf"):
        raise ValueError("last and sequence are true or false, and unit is above 0")
    numbers = [np.asarray(program.offset), *(np.asarray(term.scale) for term in program.outputs)]
    if not all(np.isfinite(array).all() for array in numbers):
        raise ValueError("outputs are not finite")
    for term in program.outputs:
        if type(term.wire) is not int or not 0 <= term.wire < len(program.wires):
            raise ValueError(f"an answer is read off wire {term.wire}, and there are {len(program.wires)}")
