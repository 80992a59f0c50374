"""The engine's kernels for NEON in an emulator: built without Python, compared with the portable ones and the interpreter."""

import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_programs import woken

from saccade.deploy import Program, engine, lower

HERE = Path(__file__).parent / "native"
NEEDED = ("cmake", "aarch64-linux-gnu-g++", "qemu-aarch64")
missing = [name for name in NEEDED if shutil.which(name) is None]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")]
# the first has no products of bytes, the second has them
PROCESSORS = {"cortex-a53": ("portable", "neon"), "cortex-a76": ("portable", "neon", "neon_dot")}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The program; SACCADE_CHECK is one that was built before."""
    if given := os.environ.get("SACCADE_CHECK"):
        return Path(given)
    folder = tmp_path_factory.mktemp("engine")
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={HERE / 'aarch64.cmake'}"
    for command in (["cmake", "-S", HERE, "-B", folder, toolchain], ["cmake", "--build", folder]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "check"


def check(program, processor, *given):
    """What ran, as "SET, KERNEL"."""
    command = ["qemu-aarch64", "-cpu", processor, str(program), *map(str, given)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    return {line.rpartition(":")[0] for line in done.stdout.splitlines()[:-1]}


class Numbers(list):
    """Whole numbers one after the other, as native/given.cpp reads them."""

    def many(self, numbers):
        self += [len(numbers), *numbers]

    def reals(self, numbers):
        self.many(np.asarray(numbers, np.float64).reshape(-1).view(np.int64).tolist())


class Draft:
    """Stands for the engine's: keeps what a plan is made of."""

    def __init__(self):
        self.records, self.count = Numbers(), 0

    def add(self, kind, inputs, numbers, arrays, shape, low, high, steps):
        self.count += 1
        for part in ([ord(letter) for letter in kind], inputs, numbers):
            self.records.many(part)
        self.records.append(len(arrays))
        for array in arrays:
            self.records.many(np.shape(array))
            self.records.many(np.asarray(array).reshape(-1).tolist())
        self.records.many(shape)
        self.records += [low, high, steps]

    def build(self, T, reads, scales, offset, last, *settings):
        self.records.many(reads)
        for scale in scales:
            self.records.reals(scale)
        self.records.reals(offset)
        return self


def write(path, program, x, monkeypatch):
    """A program for a file of numbers, its input and the interpreter's answers."""
    with monkeypatch.context() as patched:
        patched.setattr(engine, "module", lambda: SimpleNamespace(Draft=Draft))
        T = len(x) if program.sequence else program.T
        draft = engine.plan(program, T)
    answers = program.run(x, engine="numpy")
    numbers = Numbers([T, len(answers), int(program.sequence), int(program.last), draft.count, *draft.records])
    numbers.many(x.reshape(-1).tolist())
    numbers.reals(answers)
    np.array(numbers, "<i8").tofile(path)


@pytest.mark.parametrize("processor", PROCESSORS)
def test_random_layers(built, processor):
    ran = check(built, processor, "random", 1, 48)
    for name in PROCESSORS[processor][1:]:
        for kernel in ("events", "counts", "tables", "codebook", "dense", "winograd", "depthwise"):
            assert f"{name}, {kernel}" in ran, (name, kernel, ran)
    assert "portable, events" in ran
    assert any(what.startswith("neon_dot") for what in ran) == ("neon_dot" in PROCESSORS[processor])


@pytest.mark.parametrize("name", ["cifar10.sacc", "or_resnet18_small", "sdt_v1_small"])
def test_whole_programs(built, name, tmp_path, monkeypatch):
    if name.endswith(".sacc"):
        program = Program.load(HERE.parents[2] / "checkpoints" / name)
        x = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32), np.uint8)
    else:
        model, pixels = woken(name)
        program = lower(model, pixels / 255)
        x = (pixels[:, :1] if program.sequence else pixels[:1]).numpy().astype(np.uint8)
    write(tmp_path / "program", program, x, monkeypatch)
    check(built, "cortex-a76", "program", tmp_path / "program")
