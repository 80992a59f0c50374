"""The native engine gives the wires of the interpreter, in every form that the machine has."""

import importlib.util

import numpy as np
import pytest
from test_programs import FAMILIES, REFUSED, woken

from saccade.deploy import engine, lower

if importlib.util.find_spec("saccade._engine") is None:
    pytest.skip("the native engine is not built", allow_module_level=True)
ISAS = engine.module().instruction_sets()


def same(program, x, **settings):
    """All wires that the engine stores are those of the interpreter; how many."""
    expected = program.trace(x)
    found = engine.trace(program, x, **settings)
    for i, value in found.items():
        if not np.array_equal(np.broadcast_to(value, expected[i].shape), expected[i]):
            made = program.operations[i - 1].name if i else "input"
            wrong = int((value != expected[i]).sum())
            raise AssertionError(f"wire {i} ({made} of {program.wires[i]}, {settings}): {wrong} of {value.size} differ")
    return len(found)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in REFUSED])
def test_every_family(name):
    model, pixels = woken(name)
    program, x = lower(model, pixels / 255), pixels.numpy()
    assert same(program, x, fuse=False, isa=ISAS[-1]) == len(program.wires)
    for isa in ISAS:
        same(program, x, fuse=True, isa=isa)
    logits = program.run(x, engine="numpy")
    for threads in (1, 2):
        assert np.array_equal(program.run(x, engine="native", threads=threads), logits)
