"""Every form of the native kernels that this machine can run, each in a process of its own under ``SACCADE_ISA``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from saccade import kernels
from saccade.kernels import forms

pytestmark = pytest.mark.skipif(not kernels.has_native(), reason="the native kernels are not built")

NAMES = forms.native().instruction_sets() if kernels.has_native() else []
TESTS = Path(__file__).parents[1]
SOME = """
import torch
torch.set_num_threads(1)
from saccade import _native
import test_random_layouts as layouts
for check in layouts.CHECKS.values():
    for case in range(0, layouts.CASES, 400):
        check(case)
print(_native.instruction_set())
"""
DIGESTS = """
import hashlib, torch
from saccade.kernels import bits, lif, pool
from saccade.neurons import Sigmoid
for threads in (1, 2):
    torch.set_num_threads(threads)
    found = hashlib.sha256()
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        x = (torch.randn(5, 3, 30_011, generator=torch.Generator().manual_seed(0)) * 2).to(dtype)
        spikes, v, u = lif(x, decay=0.6, gain=0.7, v_th=0.9, v_rest=-0.2, reset="soft", surrogate=Sigmoid(), record=True)
        for y in (spikes.float(), v, u):
            found.update(y.numpy().tobytes())
        found.update(bits.pack(spikes, bits.Grid()).planes.numpy().tobytes())
    image = torch.randn(3, 5, 36, 132, generator=torch.Generator().manual_seed(1))
    for order in (torch.contiguous_format, torch.channels_last):
        found.update(pool.average(image.contiguous(memory_format=order), 2).contiguous().numpy().tobytes())
    print(found.hexdigest())
"""
UNKNOWN = """
import warnings
warnings.simplefilter("always")
import torch
from saccade.neurons import LIF
LIF()(torch.ones(2, 2))
"""


def python(program, isa):
    environment = os.environ | {"SACCADE_ISA": isa}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        cwd=TESTS / "kernels",
    )
    return done.returncode, done.stdout.strip(), done.stderr


@pytest.mark.parametrize("isa", NAMES[:-1])  # the last is what every other test runs
def test_random_layouts_under(isa):
    assert python(SOME, isa)[:2] == (0, isa)


def test_spikes_and_potentials_are_the_same_bits_everywhere():
    """Under every instruction set, on one thread and on two."""
    found = {isa: python(DIGESTS, isa) for isa in NAMES}
    assert all(code == 0 for code, _, _ in found.values()), found
    assert len({digest for _, out, _ in found.values() for digest in out.split()}) == 1, found


def test_an_instruction_set_that_is_not_there_is_said():
    _, _, err = python(UNKNOWN, "sse9")
    assert f"no kernels for sse9 on this machine; there are {', '.join(NAMES)}" in err


@pytest.mark.slow
@pytest.mark.parametrize("isa", NAMES)
def test_all_kernel_tests_under(isa):
    tests = [str(TESTS / part) for part in ("kernels", "layers/test_packed.py", "dehaze/test_engines.py", "neurons")]
    mine = f"--deselect={__file__}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", mine, *tests],
        env=os.environ | {"SACCADE_ISA": isa},
        capture_output=True,
        text=True,
        timeout=1500,
        cwd=TESTS.parent,
    )
    assert done.returncode == 0, done.stdout[-2000:]
