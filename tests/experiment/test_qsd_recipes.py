"""The recipes of QSD-Transformer, made small: a twin, a student of four bits that it teaches, and what is said of them."""

import json

import pytest

from saccade.cli.main import run
from saccade.cli.transformers import unroll
from saccade.experiment import RunDirectory

SMALL = "{T: 1, widths: [8, 8, 16, 16], depths: [1, 1, 1, 1, 1], heads: 2%s}"


def settings(root, config, **more):
    values = {
        "data.root": str(root),
        "data.validation": 50,
        "data.train_size": 200,
        "data.test_size": 50,
        "train.epochs": 1,
        "train.precision": "32-true",
        "train.accelerator": "cpu",
        "model.config": config,
        **more,
    }
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


def test_a_twin_teaches_four_bits(real_data, tmp_path, capsys):
    many = ", neuron: {name: ie_lif, config: {D: 255}}"
    twin, student = tmp_path / "twin", tmp_path / "student"
    assert run(["train", "qsd/cifar10-twin", "--out", str(twin), "-q", *settings(real_data, SMALL % many)]) == 0
    taught = {"teacher.model": str(twin / "model.safetensors")}
    assert (
        run(["train", "qsd/cifar10-small", "--out", str(student), "-q", *settings(real_data, SMALL % "", **taught)])
        == 0
    )
    summary = RunDirectory(student).read_json("summary.json")
    assert set(summary["entropy_bits"]) == {"q", "k", "v"}
    parts = RunDirectory(student).read_json("entropy.json")["parts"]
    assert len(parts) == 6
    assert all(0 <= part["bits"] <= 2.33 for part in parts)
    page = (student / "report.html").read_text()
    assert "What queries, keys and values can tell" in page
    capsys.readouterr()
    unroll(str(student), data=real_data, images=10, json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["D"], found["images"], found["flips_float64"]) == (4, 10, 0)


def test_entropy_needs_an_attention(tmp_path, make_recipe):
    pytest.importorskip("sklearn", reason="the digits need scikit-learn")
    from saccade.experiment import run as run_recipe

    with pytest.raises(ValueError, match=r"stages.entropy: the model has no attention"):
        run_recipe(make_recipe(stages=["entropy"]), tmp_path / "run", quiet=True)
