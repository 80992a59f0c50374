"""Commands for transformers, called as functions."""

import json

import pytest
import torch

from saccade.cli.transformers import unroll
from saccade.files import load_model, save_model
from saccade.models import create_model
from saccade.neurons import Unrolled


def test_unroll_a_registered_name(tmp_path, capsys):
    target = tmp_path / "binary.safetensors"
    unroll("qsd_small", out=target, images=2)
    words = capsys.readouterr().out
    assert words.startswith("4 virtual steps of binary spikes a step; compared on 2 images:\nin float64 all of ")
    assert words.endswith(f"wrote {target}\n")
    model = load_model(target)
    assert any(isinstance(module, Unrolled) for module in model.modules())
    unroll("qsd_small", out=target, images=2, json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["D"], found["flips_float64"], found["file"]) == (4, 0, str(target))
    assert found["gap_float64"] < 1e-9


def test_unroll_refuses_what_it_cannot(tmp_path):
    with pytest.raises(ValueError, match="is a LIF, no integer neuron"):
        unroll("sdt_v2_small", out=tmp_path / "x.safetensors", images=1)
    assert not (tmp_path / "x.safetensors").exists()
    path = tmp_path / "model.safetensors"
    torch.manual_seed(0)
    save_model(create_model("qsd_small"), path)
    with pytest.raises(ValueError, match="would be written over what it is made from"):
        unroll(str(path), out=path, images=1)
