"""A neuron, an attention, a model and a transform of somebody else go the whole way: from the command line and from Python.

They live in tokens_plugin.py; no file of the package is touched for them.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from saccade import plugins
from saccade.cli.main import run as command
from saccade.compress import plan_by_ratio, score
from saccade.deploy import compare, lower
from saccade.files import load_model, load_packed, save_model, save_packed
from saccade.measure import model_size, profile
from saccade.models import create_model
from saccade.neurons import NEURONS, Stream, state_bits
from saccade.train.loop import Job
from saccade.transforms import QuantizeConfig, apply, channel_groups, channels_of, fuse, undo
from saccade.verify import verify, wake

HERE = Path(__file__).parent
pytest.importorskip("sklearn", reason="the digits need scikit-learn")


@pytest.fixture(scope="module", autouse=True)
def _plugin():
    sys.path.insert(0, str(HERE))
    plugins.load("tokens_plugin")
    yield
    sys.path.remove(str(HERE))


def recipe(path, neuron, **train):
    plan = {
        "name": "tokens",
        "plugins": ["tokens_plugin"],
        "model": {
            "name": "token_net",
            "config": {"neuron": neuron},
            "transforms": [{"name": "temperature", "config": {"start": 2.0}}],
        },
        "data": {"name": "digits", "validation": 100, "train_size": 640, "test_size": 100},
        "train": {"epochs": 5, "batch_size": 32, "lr": 1e-2, "accelerator": "cpu", "checkpoint_steps": 4, **train},
        "stages": ["profile", "samples"],
    }
    path.write_text(yaml.safe_dump(plan))
    return path


@pytest.fixture(scope="module", params=["tet", "integer_for_tests"])
def trained(request, tmp_path_factory):
    """A run by recipe name from the command line."""
    folder = tmp_path_factory.mktemp(request.param)
    path = recipe(folder / "tokens.yaml", request.param)
    assert command(["--plugin", "tokens_plugin", "train", str(path), "--out", str(folder / "run"), "--quiet"]) == 0
    return folder / "run"


def woken(neuron="tet", **changes):
    torch.manual_seed(0)
    model = create_model("token_net", neuron=neuron, **changes).eval()
    x = torch.rand(4, 3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    wake(model, x)
    return model, x


def test_it_learns(trained):
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["test_accuracy"] > 0.2  # ten classes
    assert summary["model"] == "token_net"
    assert (trained / "report.html").exists()


def test_a_run_that_was_cut_off_resumes_to_the_same_weights(trained, tmp_path, monkeypatch):
    real, count = Job._step, []

    def cut(job, *arguments):
        count.append(1)
        if len(count) == 15:
            raise KeyboardInterrupt
        return real(job, *arguments)

    neuron = yaml.safe_load((trained / "recipe.yaml").read_text())["model"]["config"]["neuron"]
    monkeypatch.setattr(Job, "_step", cut)
    path = recipe(tmp_path / "tokens.yaml", neuron)
    assert command(["train", str(path), "--out", str(tmp_path / "run"), "--quiet"]) == 130
    monkeypatch.setattr(Job, "_step", real)
    assert command(["train", "--resume", str(tmp_path / "run"), "--quiet"]) == 0
    whole, again = (load_file(run / "model.safetensors") for run in (trained, tmp_path / "run"))
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_every_command_takes_it(trained, capsys):
    run = str(trained)
    for arguments in (
        ["evaluate", run],
        ["profile", run, "--images", "20"],
        ["fuse", run],
        ["verify", run],
        ["compress", "size", run],
        ["compress", "quantize", run, "--bits", "4"],
        ["compress", "score", run, "--criterion", "l1"],
        ["compress", "prune", run, "--ratio", "0.25"],
        ["profile", "token_net"],
        ["verify", "token_net"],
    ):
        code = command(arguments)
        answer = capsys.readouterr()
        assert code == 0, f"{arguments}: {answer.err}{answer.out}"


def test_without_the_plugin_its_file_is_refused_by_name(trained):
    code = "import sys; from saccade.cli import main; main()"
    line = subprocess.run([sys.executable, "-c", code, "profile", str(trained)], capture_output=True, text=True)
    assert line.returncode == 2
    assert line.stderr.count("\n") == 1
    assert "needs the plugin tokens_plugin; load it with --plugin tokens_plugin" in line.stderr


@pytest.mark.parametrize("neuron", ["tet", "integer_for_tests"])
def test_it_keeps_its_promises(neuron):
    model, x = woken(neuron)
    report = verify(model, x, strict=True)
    assert report.passed, report.table()
    assert {check.status for check in report.checks} == {"PASS"}
    stream = Stream(model)
    with torch.no_grad():
        assert torch.equal(torch.cat([stream(x[:1]), stream(x[1:])]), model(x, steps=True))


@pytest.mark.parametrize("neuron", ["tet", "integer_for_tests"])
def test_it_is_measured(neuron):
    model, x = woken(neuron)
    counted = profile(model, x)
    rows = {row.name: row for row in counted.layers}
    assert rows["blocks.0.attention.q.0"].input == ("{0,1}" if neuron == "tet" else "{0..4}/4")
    assert rows["blocks.0.attention"].sops > 0  # q k^T, of spikes and spikes
    layer = model.blocks[0].first
    assert rows["blocks.0.first"].state_bytes == state_bits(layer, (16, 16)) // 8 == 4 * 16 * 16


@pytest.mark.parametrize("neuron", ["tet", "integer_for_tests"])
def test_it_saves_fuses_and_is_quantized_and_packed(neuron, tmp_path):
    model, x = woken(neuron)
    apply(model, {"name": "temperature", "config": {"start": 3.0}})
    save_model(model, tmp_path / "m.safetensors")
    assert torch.equal(load_model(tmp_path / "m.safetensors")(x), model(x))
    undo(model, "temperature")
    fused = fuse(model, x)
    assert list(fused.left) == ["blocks.0.attention.norm"]  # after a product of spikes, no layer
    assert len(fused.folded) == 7
    assert torch.allclose(fused.model.double()(x.double()), model.double()(x.double()), atol=1e-8)
    model.float()
    before = model_size(model).bits
    apply(model, QuantizeConfig(bits=4))
    assert model_size(model).bits < before / 3
    save_packed(model, tmp_path / "p.safetensors", x)
    packed = load_packed(tmp_path / "p.safetensors")
    assert torch.allclose(packed.double()(x.double()), model.double()(x.double()), atol=1e-4)


@pytest.mark.parametrize("neuron", ["tet", "integer_for_tests"])
def test_it_loses_channels(neuron, tmp_path):
    """Values with what reads them, and the two layers in between; tokens and read-out keep theirs, and say why."""
    model, x = woken(neuron)
    groups = channel_groups(model)
    assert set(groups) == {"blocks.0.attention.v.0", "blocks.0.mlp.0"}
    assert groups["blocks.0.mlp.0"].consumers == (("blocks.0.mlp.3", 1),)
    assert channels_of(model, x).left["embed.0"] == "the read-out head reads it"
    plan = plan_by_ratio(score(model, criterion="random"), 0.25)
    model.double()
    handles = []
    for name, group in groups.items():
        mask = torch.zeros(group.size, dtype=torch.float64)
        mask[list(plan.kept[name])] = 1
        for path in group.neurons:  # the wide network with the others silenced
            silence = lambda module, args, y, mask=mask: y * mask  # noqa: E731
            handles.append(model.get_submodule(path).register_forward_hook(silence))
    expected = model(x.double())
    for handle in handles:
        handle.remove()
    assert (expected - model(x.double())).abs().max() > 1e-3
    apply(model, plan.transform())
    assert torch.allclose(model(x.double()), expected, atol=1e-9)
    save_model(model.float(), tmp_path / "m.safetensors")
    assert torch.equal(load_model(tmp_path / "m.safetensors")(x), model(x))


def test_it_is_lowered_or_refused_by_name():
    """With neurons that a program knows; without a rule for those of the plugin."""
    model, x = woken()
    pixels = (x * 255).round()
    assert compare(lower(model, pixels / 255), model, pixels).mismatches == 0
    model, x = woken("integer_for_tests")
    with pytest.raises(ValueError, match=r"a \w+ cannot be lowered; a rule can be added"):
        lower(model, x)


def test_its_settings_are_checked_like_our_own():
    with pytest.raises(ValueError, match="token_net: neuron: integer_for_tests: steps must be at least 1, got 0"):
        create_model("token_net", neuron={"name": "integer_for_tests", "config": {"steps": 0}})
    with pytest.raises(ValueError, match="unknown neuron 'integer_for_test'; did you mean integer_for_tests"):
        NEURONS["integer_for_test"]
