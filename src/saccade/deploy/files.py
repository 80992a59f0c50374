"""Programs in files, ``.sacc``: a head of 32 bytes, records as deflated JSON, arrays. docs/format.md describes every byte."""

from __future__ import annotations

import json
import mmap
import os
import struct
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

import numpy as np

from saccade.deploy.program import LARGEST, OPERATIONS, Operation, Program, Wire
from saccade.deploy.storage import decode, encode
from saccade.deploy.values import Term
from saccade.files.tensors import BROKEN, in_one_line

MAGIC, VERSION = b"SACC", 1
HEAD = struct.Struct(
    "<4sIQIIII"
)  # magic, version, bytes of the file, of the JSON, CRC-32 of JSON, of arrays, of the head so far
ALIGNED = 8  # where arrays begin
MOST_RECORDS = 1 << 26  # bytes of JSON
LARGEST_SCALE = 1e100  # of an answer


@dataclass(frozen=True)
class ProgramSize:
    """Bytes of a program file: whole, of weights, of thresholds and all other arrays, of records and head."""

    total: int
    weights: int
    other: int
    header: int


def program_bytes(program: Program) -> bytes:
    """The file of a program."""
    return _written(program)[0]


def program_size(program: Program) -> ProgramSize:
    """What its file weighs, without writing one."""
    return _written(program)[1]


def save_program(program: Program, path: str | os.PathLike[str]) -> None:
    """Write a program (aside, then renamed: what was there stays until the new one is whole)."""
    aside = Path(path).with_name(Path(path).name + ".part")
    try:
        aside.write_bytes(program_bytes(program))
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise OSError(f"{path}: could not be written ({error}); the previous file, if any, is untouched") from None


def _written(program: Program) -> tuple[bytes, ProgramSize]:
    arrays: list[Any] = []
    body, weights = bytearray(), 0

    def kept(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            body.extend(bytes(-len(body) % ALIGNED))
            record, data = encode(value)
            arrays.append({**record, "at": len(body), "bytes": len(data)})
            body.extend(data)
            return {"array": len(arrays) - 1}
        return [kept(item) for item in value] if isinstance(value, tuple) else value

    records = []
    for operation in program.operations:
        settings = {}
        for name, value in {**operation.settings(), **operation.arrays()}.items():
            before = len(body)
            settings[name] = kept(value)
            weights += len(body) - before if name == "weight" else 0
        records.append({"operation": operation.name, "settings": settings})
    head: dict[str, Any] = {name: getattr(program, name) for name in ("T", "unit", "last", "sequence", "notes")}
    first = program.wires[0]
    head["input"] = [list(first.shape), first.low, first.high]
    head["paths"] = [wire.path for wire in program.wires]
    head["classes"] = list(program.classes)
    head["outputs"] = [[term.wire, kept(term.scale)] for term in program.outputs]
    head["offset"] = kept(np.asarray(program.offset))
    head["operations"], head["arrays"] = records, arrays
    text = zlib.compress(json.dumps(head, separators=(",", ":")).encode(), 9)
    text += bytes(-len(text) % ALIGNED)
    total = HEAD.size + len(text) + len(body)
    fixed = struct.pack("<4sIQIII", MAGIC, VERSION, total, len(text), zlib.crc32(text), zlib.crc32(body))
    data = fixed + struct.pack("<I", zlib.crc32(fixed)) + text + body
    return data, ProgramSize(total, weights, len(body) - weights, HEAD.size + len(text))


def load_program(path: str | os.PathLike[str]) -> Program:
    """Read a program. Shapes and ranges of all wires are derived again from the records, so that what runs has been proven.

    Raises ValueError in one line for anything that is no program: cut off, damaged, foreign, newer.
    """
    import saccade.deploy.operations as operations
    from saccade.plugins import load_files_of

    load_files_of(operations.__name__)
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such program file")
    with open(path, "rb") as file:
        head = file.read(HEAD.size)
        size = os.fstat(file.fileno()).st_size
        length = _checked_head(path, head, size)
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    text, body = data[HEAD.size : HEAD.size + length], data[HEAD.size + length :]
    _, _, _, _, of_text, of_body, _ = HEAD.unpack(head)
    for what, part, sum_ in (("records", text, of_text), ("arrays", body, of_body)):
        if zlib.crc32(part) != sum_:
            raise ValueError(f"{path}: its {what} are damaged (their checksum differs); build or copy the file again")
    try:
        inflate = zlib.decompressobj()
        records = inflate.decompress(bytes(text), MOST_RECORDS)
        if not inflate.eof:
            raise ValueError(f"they are cut off, or have more than {MOST_RECORDS:,} bytes")
        return _read(json.loads(records), body)
    except (*BROKEN, zlib.error) as error:
        raise ValueError(f"{path}: its records are damaged ({in_one_line(error)})") from None


def _checked_head(path: Any, head: bytes, size: int) -> int:
    """The length of the JSON."""
    if len(head) < HEAD.size or head[:4] != MAGIC:
        raise ValueError(f"{path}: not a program file of saccade (.sacc); saccade deploy build writes them")
    _, version, total, length, _, _, own = HEAD.unpack(head)
    if zlib.crc32(head[: HEAD.size - 4]) != own:
        raise ValueError(f"{path}: its head is damaged (its checksum differs); build or copy the file again")
    if version != VERSION:
        raise ValueError(f"{path}: a program file of version {version}; this saccade reads {VERSION}")
    if size != total or HEAD.size + length > total:
        raise ValueError(f"{path}: has {size} bytes where {total} were written; copy the file again")
    return int(length)


def _read(head: dict[str, Any], body: memoryview) -> Program:
    found: dict[int, Any] = {}

    def given(value: Any) -> Any:
        if isinstance(value, dict):
            number = value["array"]
            if number not in found:
                record = head["arrays"][number]
                if min(number, record["at"], record["bytes"]) < 0:
                    raise ValueError("an array before the file")
                found[number] = decode(record, body[record["at"] : record["at"] + record["bytes"]])
            return found[number]
        return tuple(given(item) for item in value) if isinstance(value, list) else value

    shape, low, high = head["input"]
    paths = head["paths"]
    if any(type(path) is not str for path in (*paths, *head["notes"], *head["classes"])):
        raise ValueError("names are text")
    wires = [Wire(tuple(shape), low, high, paths[0]).checked()]
    made: list[Operation] = []
    for record, path in zip(head["operations"], paths[1:], strict=True):
        operation = OPERATIONS[record["operation"]](
            **{name: given(value) for name, value in record["settings"].items()}
        )
        try:
            for name, hint in _hints(type(operation)).items():  # type: ignore[arg-type]
                if not _is(getattr(operation, name), hint):
                    raise ValueError(f"its {name} is no {getattr(hint, '__name__', hint)}")
            if any(not 0 <= wire < len(wires) for wire in operation.inputs):
                raise ValueError("it reads a wire that is not made before")
            wires.append(operation.made(*(wires[i] for i in operation.inputs)).named(path).checked())
        except BROKEN as error:
            raise ValueError(f"operation {len(made) + 1}, {operation.name}: {in_one_line(error)}") from None
        made.append(operation)
    terms = tuple(Term(wire, given(scale)) for wire, scale in head["outputs"])
    program = Program(
        T=head["T"],
        unit=head["unit"],
        wires=tuple(wires),
        operations=tuple(made),
        outputs=terms,
        offset=given(head["offset"]),
        last=head["last"],
        sequence=head["sequence"],
        notes=tuple(head["notes"]),
        classes=tuple(head["classes"]),
    )
    _check(program)
    return program


@cache
def _hints(kind: type[Operation]) -> dict[str, Any]:
    return get_type_hints(kind)


def _is(value: Any, hint: Any) -> bool:
    """Whether a field holds what its record declares: numbers of 62 bits, text, arrays of whole numbers, tuples of those."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is ClassVar:
        return True
    if origin is np.ndarray:
        return isinstance(value, np.ndarray) and value.dtype == np.int64 and value.size > 0
    if origin is tuple:
        each = inner[:1] * len(value) if inner[1:] == (...,) and isinstance(value, tuple) else inner
        return isinstance(value, tuple) and len(value) == len(each) and all(map(_is, value, each))
    return type(value) is hint and (hint is not int or abs(value) < 1 << LARGEST)


def _check(program: Program) -> None:
    """Raises ValueError for what no program is."""
    if type(program.T) is not int or not 1 <= program.T <= 1 << 16:
        raise ValueError("T is a whole number from 1 to 65536")
    if type(program.last) is not bool or type(program.sequence) is not bool or not 0 < program.unit < float("inf"):
        raise ValueError("last and sequence are true or false, and unit is above 0")
    numbers = [program.offset, *(term.scale for term in program.outputs)]
    if not all(isinstance(array, np.ndarray) and array.dtype == np.float64 for array in numbers):
        raise ValueError("scales of the answer are arrays of float64")
    if not all((np.abs(array) < LARGEST_SCALE).all() for array in numbers):
        raise ValueError("scales of the answer are not finite, or out of all proportion")
    for term in program.outputs:
        if type(term.wire) is not int or not 0 <= term.wire < len(program.wires):
            raise ValueError(f"an answer is read off wire {term.wire}, and there are {len(program.wires)}")
    shapes = [program.wires[term.wire].shape for term in program.outputs]
    if len({len(shape) for shape in shapes}) != 1 or any(array.ndim > len(shapes[0]) for array in numbers):
        raise ValueError("scales of the answer have other axes than what they scale")
    answer = np.broadcast_shapes(*shapes, *(array.shape for array in numbers))
    if program.classes and answer[-1:] != (len(program.classes),):
        raise ValueError(f"{len(program.classes)} classes are named, and answers are {list(answer)}")
