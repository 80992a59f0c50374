"""The main path on real CIFAR-10: train, score, profile, prune, verify."""

import json

from saccade.cli.main import run


def test_the_path_on_real_images(real_data, tmp_path, capsys):
    out = tmp_path / "run"
    small = {
        "model.config": "{T: 2, neuron: tet, widths: [8, 16, 16], pairs: [1, 1, 1]}",
        "model.name": "or_resnet18",
        "data.root": str(real_data),
        "data.validation": 200,
        "data.train_size": 2000,
        "data.test_size": 300,
        "train.epochs": 4,
        "train.batch_size": 32,
        "train.lr": 0.01,
        "train.compile": "false",
        "train.accelerator": "cpu",
        "train.precision": "32-true",
    }
    settings = [part for key, value in small.items() for part in ("--set", f"{key}={value}")]
    assert run(["train", "syna_resnet/cifar10-small", "--out", str(out), "--quiet", *settings]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["images"] == {"train": 2000, "validation": 200, "test": 300}
    assert summary["test_accuracy"] > 0.15  # chance is 0.1
    assert summary["classes"][0] == "airplane"
    page = (out / "report.html").read_text()
    assert "Natural pruning" in page
    assert page.count('alt="sample"') == 8
    for command in ("evaluate", "profile", "prune", "verify"):
        capsys.readouterr()
        assert run([command, str(out), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)
