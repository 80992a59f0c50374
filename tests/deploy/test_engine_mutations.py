"""Program files with right checksums and other contents: refused in one line, or run by the engine to the interpreter's wires.

``SACCADE_PROGRAM_MUTATIONS=2000`` tries as many of each program, as `make asan` does, where no access may lie outside.
"""

import copy
import json
import os
import struct
import zlib

import numpy as np
import pytest
from test_native_engine import KERNELS, same
from test_program_files import places, sealed
from test_programs import woken

from saccade.deploy import load_program, lower, program_bytes
from saccade.transforms import apply, undo

MUTATIONS = int(os.environ.get("SACCADE_PROGRAM_MUTATIONS") or 24)
LARGEST = 1 << 18  # numbers of a wire, of all steps, beyond which a program is only loaded
FEW_BITS = {"name": "quantized_membrane", "config": {"alpha": 1.5}}
SUBJECTS = {  # settings, and the bits of the weights
    "or_resnet18_small": ({}, 4),
    "syna_resnet18_small": ({}, 4),  # gates
    "vgg_small": ({}, 1),
    "vgg16": ({"neuron": FEW_BITS}, 4),
    "rows_mlp": ({"neuron": "leak_mixing"}, 4),
    "sdt_v1_small": ({}, 4),
    "qsd_small": ({}, 4),
}
VALUES = (None, True, -1, 0, 1, 2, 3, 7, 64, 1 << 20, 1 << 40, -(1 << 70), 0.5, 1e308, "x", [], [3], [1, 1], {})


def changed(original, leaves, draw):
    """Records with one place changed: to anything, by a little, or to what stands at another place of the same name."""
    head = copy.deepcopy(original)
    at = leaves[draw.integers(len(leaves))]
    inner = head
    for key in at[:-1]:
        inner = inner[key]
    value, kind = inner[at[-1]], draw.integers(5)
    alike = [other for other in leaves if other[-1] == at[-1]]
    if kind == 0:
        inner[at[-1]] = VALUES[draw.integers(len(VALUES))]
    elif kind == 1 and isinstance(value, int):
        inner[at[-1]] = value + int(draw.integers(-2, 3))
    elif kind == 2 and isinstance(value, list) and value:
        value.insert(0, value[-1]) if draw.integers(2) else value.pop()
    else:
        other = original
        for key in alike[draw.integers(len(alike))]:
            other = other[key]
        inner[at[-1]] = copy.deepcopy(other)
    return head


def flipped(data, start, draw):
    """A file with some bits of its arrays changed, and the checksums that go with them."""
    damaged = bytearray(data)
    for _ in range(int(draw.integers(1, 9))):
        damaged[draw.integers(start, len(data))] ^= 1 << draw.integers(8)
    damaged[24:28] = struct.pack("<I", zlib.crc32(damaged[start:]))
    damaged[28:32] = struct.pack("<I", zlib.crc32(damaged[:28]))
    return bytes(damaged)


@pytest.mark.parametrize("name", SUBJECTS)
def test_what_loads_runs_within_its_bounds(name, tmp_path):
    settings, bits = SUBJECTS[name]
    model, pixels = woken(name, **settings)
    if bits == 1:
        undo(model, "quantize")
        apply(model, {"name": "quantize", "config": {"method": "binary", "bits": 1}})
    data, path = program_bytes(lower(model.eval(), pixels / 255)), tmp_path / "net.sacc"
    length = struct.unpack("<I", data[16:20])[0]
    original = json.loads(zlib.decompress(data[32 : 32 + length]))
    leaves, draw, ran = list(places(original))[1:], np.random.default_rng(0), 0
    stopped = []
    for _ in range(MUTATIONS):
        by_record = bool(draw.integers(2))
        path.write_bytes(
            sealed(data, changed(original, leaves, draw)) if by_record else flipped(data, 32 + length, draw)
        )
        try:
            program = load_program(path)
        except ValueError as error:
            stopped.append(str(error))
            continue
        first = program.wires[0]
        if program.T * max(int(np.prod([1, *wire.shape])) for wire in program.wires) > LARGEST:
            continue
        shape = (program.T, 1, *first.shape) if program.sequence else (1, *first.shape)
        x = draw.integers(first.low, first.high + 1, shape)
        try:
            expected = program.trace(x)
        except ValueError as error:
            stopped.append(f"{path}: {error}")
            continue
        for wire, values in zip(program.wires, expected, strict=True):
            assert values.shape[2:] == wire.shape, wire
            assert wire.low <= values.min() <= values.max() <= wire.high, wire
        same(program, x, expected, kernel=KERNELS[draw.integers(len(KERNELS) - 1)])  # without timing which is fastest
        ran += 1
    assert ran > MUTATIONS // 8
    assert stopped
    assert all(line.startswith(str(path)) and "\n" not in line for line in stopped)
