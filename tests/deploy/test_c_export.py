"""Programs as C: compiled by the machine's own compiler, the spikes of the interpreter in every family."""

import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from small_models import narrow

from saccade.deploy import lower
from saccade.deploy.c import load, source, write_c
from saccade.models import list_models
from saccade.transforms import QuantizeConfig, apply
from saccade.verify import wake

W4 = QuantizeConfig("lsq", 4, steps="channel", skip=())
FAMILIES = [name for name in list_models() if name.endswith("_small") or name in ("rows_mlp", "vgg16", "vggsnn")]
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


def woken(name, **changes):
    """A network of few channels with weights of four bits, all of whose layers fire, and whole pixels for it."""
    model, x = narrow(name, **changes)
    pixels = (x * 255).round()
    apply(model, W4)
    wake(model, pixels / 255)
    return model.eval(), pixels


def lowered(model, pixels):
    """The program of a model, or a skip where it has none."""
    try:
        return lower(model, pixels / 255)
    except ValueError as error:
        pytest.skip(f"has no program: {error}")


def equal(program, folder, x, name="net"):
    """Write, compile and run: levels and logits are those of the interpreter."""
    c = source(program, name)
    write_c(c, folder)
    compiled = load(folder)
    found = program.trace(x)
    seen = compiled.spikes(x)
    assert len(seen) == len(list(program.named()))
    for (path, levels), (wire, _) in zip(seen, program.named(), strict=True):
        assert np.array_equal(levels, found[wire]), path
    assert np.abs(compiled.run(x) - program.run(x)).max() <= c.answer.error
    assert c.answer.error < 1e-3 * max(1.0, np.abs(program.run(x)).max())
    return c, compiled


@pytest.mark.parametrize("name", FAMILIES)
def test_the_spikes_are_the_programs(name, tmp_path):
    model, pixels = woken(name)
    program = lowered(model, pixels)
    x = pixels.numpy()
    equal(program, tmp_path, x)
    rates = [value.mean() for value in program.spikes(x).values()]
    assert max(rates) > 0.02


_ = (re, subprocess, torch)
