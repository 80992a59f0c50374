"""Compression from the command line, on real CIFAR-10: as one recipe, and step by step."""

import json
import os
import re

import pytest
import torch

from saccade.cli.main import run
from saccade.files import load_model, model_info

CHANNELS = "{T: 2, channels: [8, 12, 12, 16, 16, 16]}"


def settings(real_data, **more):
    values = {
        "data.root": str(real_data),
        "data.validation": 100,
        "data.train_size": 700,
        "data.test_size": 100,
        "train.epochs": 2,
        "train.warmup_epochs": 0,
        "train.accelerator": "cpu",
        "train.precision": "32-true",
        **more,
    }
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


@pytest.fixture(scope="session")
def whole(real_data, tmp_path_factory):
    """qp_snn/cifar10-small, made smaller: train at 4 bits, score, prune, re-estimate, fine-tune."""
    out = tmp_path_factory.mktemp("compress") / "run"
    changes = settings(
        real_data,
        **{"model.config": CHANNELS, "stages.prune.config.batches": 1, "stages.prune.config.finetune.epochs": 1},
    )
    assert run(["train", "qp_snn/cifar10-small", "--out", str(out), "--quiet", *changes]) == 0
    return out


@pytest.fixture(scope="session")
def full(real_data, tmp_path_factory):
    """A full-precision network to change step by step."""
    out = tmp_path_factory.mktemp("full") / "run"
    changes = settings(real_data, **{"model.config": CHANNELS})
    assert run(["train", "qp_snn/cifar10-twin", "--out", str(out), "--quiet", *changes]) == 0
    return out


def answer(capsys, *arguments, code=0):
    capsys.readouterr()
    assert run([str(a) for a in arguments]) == code
    captured = capsys.readouterr()
    if code == 2:
        assert captured.err.count("\n") == 1
    return captured.out if code == 0 else captured.err


def test_one_recipe(whole, capsys):
    steps = json.loads((whole / "compression.json").read_text())["steps"]
    assert [step["step"] for step in steps] == ["trained", "pruned", "norms re-estimated", "fine-tuned"]
    assert steps[1]["kept"] == {"stem.0": 4, "layers.1": 7, "layers.4": 7, "layers.8": 9, "layers.11": 9}
    assert steps[0]["bytes_file"] > 1.3 * steps[-1]["bytes_file"]
    tuned = whole / "finetune"
    assert steps[-1]["bytes_file"] == os.path.getsize(tuned / "packed.safetensors")
    assert load_model(tuned / "model.safetensors").stem[0].out_channels == 4
    page = (whole / "report.html").read_text()
    assert "<h2>Compression</h2>" in page
    assert f"{steps[-1]['bytes_file']:,}" in page
    of_model = answer(capsys, "evaluate", tuned)
    of_packed = answer(capsys, "evaluate", tuned / "packed.safetensors")
    assert of_packed.splitlines()[0] == of_model.splitlines()[0]


def test_a_run_cut_off_in_its_finetuning_goes_on_to_the_same_weights(whole, real_data, tmp_path, capsys, monkeypatch):
    from saccade.train.loop import Interrupted, Job

    changes = settings(
        real_data,
        **{
            "model.config": CHANNELS,
            "stages.prune.config.batches": 1,
            "stages.prune.config.finetune.epochs": 1,
        },
    )
    fit = Job._epoch

    def stop(job, epoch, interrupted):
        if job.directory.name == "finetune":
            raise Interrupted("stopped")
        fit(job, epoch, interrupted)

    monkeypatch.setattr(Job, "_epoch", stop)
    out = tmp_path / "run"
    assert run(["train", "qp_snn/cifar10-small", "--out", str(out), "--quiet", *changes]) == 130
    assert f"go on with: saccade train --resume {out}" in capsys.readouterr().err
    assert json.loads((out / "summary.json").read_text())["stages_done"] == ["profile"]
    monkeypatch.undo()
    answer(capsys, "train", "--resume", out, "-q")
    for name in ("model.safetensors", "finetune/model.safetensors"):
        one, two = (load_model(folder / name).state_dict() for folder in (whole, out))
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert "<h2>Compression</h2>" in (out / "report.html").read_text()


def test_steps_and_sizes(full, capsys):
    out = answer(capsys, "compress", "quantize", full, "--bits", "2", "--calibrate", "200")
    assert "5 layers changed, left as they were: stem.0, head" in out
    assert "times smaller" in out
    assert "levels used by the central 99 % of weights: 100% to 100%" in out
    quantized = full / "quantized.safetensors"
    assert model_info(quantized)["transforms"][0]["config"]["bits"] == 2
    scored = json.loads(answer(capsys, "compress", "score", quantized, "--batches", "1", "--json"))
    assert set(scored["values"]) == {"stem.0", "layers.1", "layers.4", "layers.8", "layers.11"}
    assert scored["images"] == 128
    assert "svs on 128 training images" in answer(capsys, "compress", "score", quantized, "--batches", "1")
    budget = answer(capsys, "compress", "prune", quantized, "--budget-kb", "5", "--out", full / "narrow.safetensors")
    assert "channels kept: stem" in budget
    summary = answer(capsys, "compress", "finetune", full / "narrow.safetensors", "--set", "train.epochs=1", "-q")
    assert "test accuracy" in summary
    tuned = full / "finetune"
    out = answer(capsys, "compress", "size", tuned, "--export", full / "packed.safetensors")
    total = os.path.getsize(full / "packed.safetensors")
    assert f"{total:,} bytes: " in out
    assert float(re.search(r"paper_qp +([\d,.]+) bytes", out)[1].replace(",", "")) <= 5000
    exact = json.loads(answer(capsys, "compress", "size", full / "packed.safetensors", "--json"))["exact"]
    assert exact["total"] == total == exact["payload"] + exact["header"]
    assert answer(capsys, "compress", "size", tuned, "--preset", "paper_s2nn").count("paper_s2nn") == 1
    found = json.loads(answer(capsys, "compress", "size", tuned, "--json"))
    assert found["exact"]["total"] == total


def test_sub_bit_with_a_teacher(full, capsys):
    answer(capsys, "compress", "subbit", full, "--eta", "4", "--out", full / "sub.safetensors", "--calibrate", "100")
    teacher = full / "model.safetensors"
    options = ["--set", "train.epochs=1", "--out", full / "taught", "--teacher", teacher, "-q", "--json"]
    summary = json.loads(answer(capsys, "compress", "finetune", full / "sub.safetensors", *options))
    assert summary["test_total"] == 100
    taught = load_model(full / "taught" / "model.safetensors")
    assert taught.layers[1].form.eta == 4
    assert len(taught.layers[1].used_weight().sign().flatten(0, 1).flatten(1).unique(dim=0)) <= 16


def test_memory_free(full, capsys):
    out = answer(capsys, "compress", "memory-free", full, "--mode", "masked", "--calibrate", "100")
    assert out.startswith("6 layers changed\n")
    network = load_model(full / "memory-free.safetensors")
    assert network.layers[3].config.T == 2
    found = json.loads(answer(capsys, "evaluate", full / "memory-free.safetensors", "--json"))
    assert found["total"] == 100


def test_an_interrupted_finetuning_goes_on_to_the_same_weights(full, tmp_path, capsys, monkeypatch):
    from saccade.train.loop import Interrupted, Job

    subbit = "model.transforms=[{name: subbit, config: {eta: 4}}]"  # whose codebooks draw new codewords on the way
    base = [
        "compress",
        "finetune",
        full / "model.safetensors",
        "--set",
        "train.epochs=2",
        "--set",
        subbit,
        "-q",
        "--out",
    ]
    answer(capsys, *base, tmp_path / "undisturbed")
    fit = Job._epoch

    def stop(job, epoch, interrupted):
        if epoch == 1:
            raise Interrupted("stopped")
        fit(job, epoch, interrupted)

    monkeypatch.setattr(Job, "_epoch", stop)
    assert run([str(a) for a in [*base, tmp_path / "cut"]]) == 130
    assert "give the same command again" in capsys.readouterr().err
    monkeypatch.undo()
    answer(capsys, *base, tmp_path / "cut")
    one, two = (load_model(tmp_path / name / "model.safetensors").state_dict() for name in ("undisturbed", "cut"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_bad_input_is_one_line(full, tmp_path, capsys):
    before = sorted(path.name for path in full.iterdir())
    lines = {
        ("quantize", full, "--bits", "9"): "bits must be 1 to 8, got 9",
        ("quantize", full, "--method", "ternary"): "unknown quantizer 'ternary'",
        ("quantize", tmp_path): "neither a model file nor a run directory",
        ("subbit", full, "--eta", "10"): "eta must be 1 to 9 bits",
        ("memory-free", full, "--mode", "both"): "unknown neuron 'both_mixing'",
        ("score", full, "--criterion", "best"): "unknown criterion 'best'",
        ("score", full / "recipe.yaml"): "not a readable model file",
        ("prune", full): "give one of --ratio, --ratios and --budget-kb",
        ("prune", full, "--ratio", "0.2", "--scores", tmp_path / "none.json"): "cannot read the scores",
        ("prune", full, "--ratios", "stem"): "write GROUP=SHARE, e.g. stem.0=0.3",
        ("prune", full, "--ratios", "a=0.1", "--budget-kb", "3"): "give one of",
        ("finetune", tmp_path / "none.safetensors"): "neither a model file nor a run directory",
        ("size", full, "--preset", "mine"): "unknown preset 'mine'",
        ("size", tmp_path / "none.safetensors"): "neither a model file nor a run directory",
        ("size", full, "--preset", "mine", "--export", tmp_path / "p.safetensors"): "unknown preset 'mine'",
        ("prune", full, "--ratio", "1.5"): "ratio: Input should be less than 1",
        ("prune", full, "--budget-kb", "0"): "budget_kb: Input should be greater than 0",
        ("prune", full, "--ratios", "stem=0.1", "--ratios", "stem=0.2"): "stem is given twice",
        ("finetune", full, "--method", "logits"): "name one with --teacher",
        ("size", full / "recipe.yaml"): "not a readable model file",
    }
    for arguments, message in lines.items():
        assert message in answer(capsys, "compress", *arguments, code=2), arguments
    scores = tmp_path / "scores.json"
    values = {"stem.0": [1.0, 2.0]}
    record = {
        "format": "saccade-scores-1",
        "criterion": "svs",
        "values": values,
        "ties": values,
        "images": 1,
        "seed": 0,
    }
    scores.write_text(json.dumps(record))
    found = answer(capsys, "compress", "prune", full, "--ratio", "0.2", "--scores", scores, code=2)
    assert "scores are of another network: stem.0 has 8 channels here and 2 there" in found
    assert sorted(path.name for path in full.iterdir()) == before
    assert not (tmp_path / "p.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prune": "{ratio: 0.3}"}, "prune: unknown key"),
        ({"stages": "[prune]"}, "stages.prune: give exactly one of ratio, ratios and budget_kb"),
        ({"stages.prune.config.budget_kb": 30}, "stages.prune: give exactly one of ratio, ratios and budget_kb"),
        ({"stages.prune.config.criterium": "svs"}, "stages.1: prune takes no 'criterium'; did you mean 'criterion'?"),
        ({"train.devices": 2}, "prune works in one process"),
        ({"model.start": "x.safetensors"}, "give either name"),
        ({"model.name": '""'}, "give either name"),
        ({"teacher.model": "none.safetensors"}, "none.safetensors: no such model file"),
        ({"teacher.model": "t", "train.compile": "true"}, "train.compile must be false"),
        ({"stages.prune.config.criterion": "svd"}, "stages.1: prune: criterion: Input should be 'svs', 'sca'"),
        (
            {"stages.prune.config": "{ratios: {conv9: 0.2}}"},
            "stages.prune: ratios: no group 'conv9'; the model has stem.0",
        ),
        ({"stages.prune.config": "{ratios: {conv1: 1.2}}"}, "stages.1: prune: ratios: Input should be less than 1"),
        ({"teacher.model": "t", "train.recompute": "true"}, "train.recompute must be false"),
        ({"model.transforms": "[{name: prune}]"}, "kept: say how many channels of which groups stay"),
        (
            {
                "model.transforms": "[{name: subbit, config: {eta: 4}}]",
                "train.devices": 2,
                "stages": "[]",
            },
            "subbit works in one process",
        ),
        ({"stages.prune.config.finetune.epocs": 3}, "stages.prune: finetune: the section train has no 'epocs'"),
        ({"stages.prune.config.finetune.lr": -3}, "stages.prune: finetune.lr: Input should be greater than 0"),
    ],
)
def test_recipes_with_mistakes(change, message, real_data, tmp_path, capsys):
    changes = settings(real_data, **{"model.config": CHANNELS}, **change)
    out = tmp_path / "run"
    assert message in answer(capsys, "train", "qp_snn/cifar10-small", "--out", out, "--quiet", *changes, code=2)
    assert not (out / "model.safetensors").exists()


def test_a_file_to_start_from_must_be_there(real_data, tmp_path, capsys):
    found = answer(capsys, "train", "qp_snn/cifar10-compact", "--out", tmp_path / "r", *settings(real_data), code=2)
    assert "runs/qp_snn-cifar10-twin-seed0/model.safetensors: no such model file" in found
