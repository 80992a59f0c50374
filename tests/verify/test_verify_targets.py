"""What ``saccade verify`` can be pointed at, and what it says when it cannot."""

import json

import numpy as np
import pytest
import torch

from saccade.cli.main import run
from saccade.files import load_model, save_model
from saccade.models import create_model
from saccade.verify import verify_target, wake

MODULE = """
import torch
from torch import nn
from saccade.models import create_model

class Neuron(nn.Module):
    def __init__(self):
        super().__init__()
        self.v = 0.0

    def forward(self, x):
        spikes = []
        for step in x:
            u = 0.5 * self.v + step
            s = (u >= 1).to(x.dtype) + 0 * u
            self.v = u * (1 - s)
            spikes.append(s)
        return torch.stack(spikes)

def net():
    net = nn.Sequential(nn.Linear(6, 8), Neuron(), nn.Linear(8, 3))
    nn.init.constant_(net[0].bias, 0.6)
    return net

def dense(): return nn.Linear(6, 3)
def ours(): return create_model("plain_resnet18_small", widths=(4, 4, 4, 4))
def broken(): raise KeyError("no\\nweights")
def number(): return 3
def rest(model):
    for module in model.modules():
        if isinstance(module, Neuron):
            module.v = 0.0
class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.a, self.n, self.b = nn.Embedding(20, 6), nn.Linear(5, 6), Neuron(), nn.Linear(6, 3)

    def forward(self, tokens, x):
        return self.b(self.n(self.words(tokens) + self.a(x)))

def tokens(): return Tokens()
def fold(): return nn.Sequential(nn.Linear(6, 3))
value = 5
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with somebody's models in it, under a name no other test has imported."""
    name = f"theirs_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def test_registered_name():
    found = verify_target("plain_resnet18_small", shape=(3, 8, 8), strict=True)
    assert found.passed, found.table()
    assert found.model == "plain_resnet18_small"
    assert found.inputs == ["sequence [4, 3, 3, 8, 8]", "static [3, 3, 8, 8]"]
    assert verify_target("or_resnet18_small", shape=(3, 8, 8), T=2).inputs[0] == "sequence [2, 3, 3, 8, 8]"


def test_model_file_and_run_directory(tmp_path):
    model = create_model("or_resnet18_small", widths=(4, 4, 4, 4))
    fresh = tmp_path / "fresh.safetensors"
    save_model(model, fresh, input_shape=(3, 12, 12))
    found = verify_target(str(fresh), strict=True)  # woken: it never saw data
    assert found.passed, found.table()
    assert found.inputs[1] == "static [3, 3, 12, 12]"
    wake(model, torch.rand(4, 2, 3, 12, 12))
    with torch.no_grad():
        model.stem[1].bias.fill_(-1e6)  # trained into silence: verify must not wake what was trained
    save_model(model, tmp_path / "model.safetensors", input_shape=(3, 12, 12))
    found = verify_target(str(tmp_path), strict=True)
    assert found["activity"].layer == "stem_neuron"
    assert load_model(tmp_path / "model.safetensors").stem[1].bias[0] == -1e6


def test_factories(here):
    theirs = f"{here}:net"
    found = verify_target(theirs, shape=(6,), T=5, reset=f"{here}:rest", spiking=["Neuron"])
    assert found["calls agree"].status == found["alphabet"].status == "PASS"
    assert found["gradients in eval"].status == "WARN"  # its neuron has no surrogate
    assert found.inputs == ["sequence [5, 3, 6]"]
    assert verify_target(theirs, shape=(6,), T=5).checks[0].status == "FAIL"
    assert verify_target(theirs, shape=(6,), time_axis="first", spiking=["Neuron=0,2"])["alphabet"].status == "FAIL"
    assert verify_target(f"{here}:dense", shape=(6,)).inputs == ["static [3, 6]"]
    assert verify_target(f"{here}:ours", shape=(3, 8, 8)).inputs[0] == "sequence [4, 3, 3, 8, 8]"
    again = verify_target(theirs, shape=(6,), T=5, reset=f"{here}:rest", spiking=["Neuron"])
    assert again.to_json() == found.to_json()


def test_input_files(here, tmp_path):
    np.save("x.npy", np.random.default_rng(0).random((4, 3, 6)))
    assert verify_target(f"{here}:net", input_file="x.npy", T=4).inputs == ["sequence [4, 3, 6]"]
    for name, array in (("objects.npy", np.array([{}])), ("text.npy", np.array(["a"]))):
        np.save(name, array)
        with pytest.raises(ValueError, match=name):
            verify_target(f"{here}:net", input_file=name)
    (tmp_path / "junk.npy").write_bytes(b"no")
    with pytest.raises(ValueError, match="not a readable"):
        verify_target(f"{here}:net", input_file="junk.npy")
    with pytest.raises(ValueError, match="not a readable"):
        verify_target(f"{here}:net", input_file="absent.npy")


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("or_resnet19", {}, "did you mean or_resnet18"),
        (".", {}, "nor a run directory with a model.safetensors"),
        ("nowhere_at_all:net", {}, "cannot import nowhere_at_all"),
        ("{}:nothing", {}, "has no 'nothing'"),
        ("{}:value", {}, "not callable"),
        ("{}:", {}, "expected package.module:name"),
        ("{}:broken", {}, "the factory raises KeyError"),
        ("{}:number", {}, "returns int, not a torch.nn.Module"),
        ("{}:net", {}, "which input"),
        ("{}:net", {"shape": (7,), "T": 4}, "refuses a float64 input"),
        ("{}:net", {"shape": (0,), "T": 4}, "impossible shape"),
        ("{}:net", {"shape": (6,), "time_axis": "last"}, "the time axis must be one of"),
        ("{}:net", {"shape": (6,), "T": 4, "spiking": ["Neuron=a"]}, "NAME=value"),
        ("{}:net", {"shape": (6,), "T": 4, "reset": "rest"}, "expected package.module:name"),
        ("plain_resnet18_small", {"shape": (4, 8, 8)}, "refuses an input"),
    ],
)
def test_errors_are_one_line(here, target, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        verify_target(target.format(here), **options)
    assert "\n" not in str(caught.value)


def test_command_line(here, capsys):
    arguments = ["verify", f"{here}:net", "--shape", "6", "--T", "4", "--spiking", "Neuron"]
    assert run([*arguments, "--reset", f"{here}:rest"]) == 0
    assert "passed" in capsys.readouterr().out
    assert run(arguments) == 1
    assert "FAILED: calls agree" in capsys.readouterr().out
    assert run([*arguments, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["passed"] is False
    assert run(["verify", "nonsense"]) == 2
    assert run(["verify", f"{here}:net", "--shape", "3,x"]) == 2
    assert "--shape" in capsys.readouterr().err


def test_verify_and_profile_take_the_same(here, capsys):
    """One declaration: the same words after both commands, for a model of several inputs, one of them tokens."""
    said = [f"{here}:tokens", "--T", "4", "--shape", "", "--shape", "5", "--values", "tokens:20", "--values", "0,1"]
    said += ["--time-axis", "first", "--time-axis", "none", "--spiking", "Neuron", "--reset", f"{here}:rest"]
    assert run(["verify", *said]) == 0, capsys.readouterr().out
    assert "sequence [4, 3] and [3, 5]" in capsys.readouterr().out
    assert run(["profile", *said, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["samples"] == 3
    assert found["totals"]["spikes"] > 0
    assert found["totals"]["macs"] == 0  # the table is looked up, and the other input is spikes
    assert found["notes"] == []


def test_profile_of_a_factory(here, capsys):
    assert run(["profile", f"{here}:net", "--shape", "6", "--T", "4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "Neuron" in told["notes"][0]
    assert told["totals"]["spikes"] == 0
    assert run(["profile", f"{here}:net", "--shape", "6", "--T", "4"]) == 0
    assert "--spiking Neuron" in " ".join(capsys.readouterr().out.split())
    assert run(["profile", f"{here}:net", "--shape", "6", "--T", "4", "--spiking", "Neuron", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["totals"]["spikes"] > 0
    assert run(["profile", "plain_resnet18_small", "--shape", "3,8,8", "--T", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["totals"]["T"] == 2
    assert run(["profile", f"{here}:net", "--memory", "3"]) == 2
    capsys.readouterr()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"values": ["0,x"]}, "expected the values of an input"),
        ({"values": ["tokens:0"]}, "expected the values of an input"),
        ({"values": ["9..1"]}, "expected the values of an input"),
        ({"values": ["0,1", "0,1"]}, "values of 2 inputs, but there are 1"),
        ({"time_axis": ["first", "none"]}, "2 time axes for 1 inputs"),
    ],
)
def test_impossible_inputs(here, options, message):
    with pytest.raises(ValueError, match=message):
        verify_target(f"{here}:fold", shape=(6,), **options)


def test_inputs_hold_what_they_are_said_to(here):
    np.save("x.npy", np.array([[0, 1, 0, 1, 1, 0], [2, 0, 0, 1, 0, 1]]))
    with pytest.raises(ValueError, match="the input holds 2"):
        verify_target(f"{here}:fold", input_file="x.npy", values="0,1")
    assert verify_target(f"{here}:fold", input_file="x.npy", values="0..2").passed


def test_progress_is_told_check_by_check(here):
    told = []
    found = verify_target(f"{here}:net", shape=(6,), T=4, tell=told.append)
    assert [check.name for check in found.checks] == [what for what in told if what in {c.name for c in found.checks}]
