"""The native decoders on bytes that no camera sent: what they do is what the plain forms do, and memory stays theirs.

``SACCADE_MUTATIONS=34000`` makes as many for each instruction set, as `make asan` does; the first 250 are held to the plain
forms.
"""

import os
import random

import numpy as np
import pytest

from saccade.events import FORMATS, EventStream, decoding, write_events
from saccade.events.plain import LAYOUTS
from saccade.events.source import Source

pytestmark = pytest.mark.skipif(decoding._native is None, reason="the native kernels are not built")

COUNT = int(os.environ.get("SACCADE_MUTATIONS") or 250)
HELD = 250  # as many are compared with the plain forms
WRITERS = {"evt2": "evt2", "evt21": "evt21", "evt21_halves": "evt21", "evt3": "evt3", "dat": "dat"}
WRITERS |= {"bs2": "nmnist", "es_dvs": "es", "dvs128": "aedat2", "davis": "aedat2"}


def samples(folder) -> dict[str, bytes]:
    """Bytes for each layout: what our writers make, dense and sparse; else random records."""
    found = {}
    for layout in LAYOUTS:
        rng = np.random.default_rng(len(layout))
        n = 250
        x, y = np.sort(rng.integers(0, 120, n)), np.sort(rng.integers(0, 3, n))
        t = np.sort(rng.integers(0, 200, n)) // 60 * 4000
        if layout not in WRITERS:
            found[layout] = rng.integers(0, 40, 16 * n, np.uint8).tobytes()
            continue
        size = (180, 240) if layout == "davis" else (128, 128)
        name = WRITERS[layout]
        path = folder / f"x{FORMATS[name].suffixes[0]}"
        write_events(path, EventStream(t, x, y, rng.integers(0, 2, n), *size), name)
        content = path.read_bytes()
        mark = content.rfind(b"\n") if name in ("evt2", "evt21", "evt3", "aedat2") else -1
        mark = (
            content.find(b"% end\n") + 5
            if name.startswith("evt")
            else content.find(b"AEChip")
            if name == "aedat2"
            else mark
        )
        begin = content.find(b"\n", mark) + 1 if name == "aedat2" else mark + 1
        found[layout] = content[begin + {"dat": 72, "es": 20}.get(name, 0) :]
    return found


def mutated(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.randint(0, 6)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            del data[at:]
        elif kind == 1:
            del data[at : at + rng.randint(1, 9)]
        elif kind == 2:
            data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 40)))
        elif kind == 3:
            data[at:at] = data[at : at + rng.randint(1, 200)]
        elif at < len(data):
            data[at] = rng.choice([0, 1, 0x40, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        if not data:
            break
    return bytes(data[rng.randint(0, 3) :])


def taken(path, layout, data, lenient, part, native):
    source = Source(path, 128, 240, lenient, part)
    try:
        parts = list(decoding.decode(source, layout, 0, data=data, native=native))
    except ValueError as error:
        return str(error)
    columns = [np.concatenate(column).tolist() for column in zip(*parts, strict=True)] if parts else [[]] * 4
    return columns, source.faults.dropped, source.faults.first, source.last


@pytest.fixture(params=decoding._native.instruction_sets() if decoding._native else ["none"])
def instructions(request):
    """The decoders of one instruction set."""
    before = decoding._native.instruction_set()
    decoding._native.use_instruction_set(request.param)
    yield
    decoding._native.use_instruction_set(before)


@pytest.mark.usefixtures("instructions")
def test_mutations(tmp_path):
    contents = samples(tmp_path)
    names = sorted(contents)
    seen = {True: 0, False: 0}
    for number in range(COUNT):
        rng = random.Random(number)
        layout = names[number % len(names)]
        content = mutated(contents[layout], rng)
        data = np.empty(len(content), np.uint8)  # of its own, so that a byte beyond it is nobody's
        data[:] = np.frombuffer(content, np.uint8)
        lenient, part = rng.random() < 0.7, rng.choice([None, None, 1, 7, 40, 500])
        if not lenient:
            part = None
        found = taken(tmp_path / "x", layout, data, lenient, part, True)
        seen[isinstance(found, str)] += 1
        if number < HELD:
            assert found == taken(tmp_path / "x", layout, data, lenient, part, False), (number, layout)
    assert min(seen.values()) > COUNT / 20  # some are read, some are refused
