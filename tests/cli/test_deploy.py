"""``saccade deploy``: a network trained on digits, as whole numbers."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from saccade.cli.main import run
from saccade.experiment import dump, parse

pytest.importorskip("sklearn", reason="the digits need scikit-learn")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deploy")
    lsq = {"method": "lsq", "bits": 4, "steps": "channel", "skip": []}
    recipe = {
        "name": "deploy-digits",
        "model": {
            "name": "or_resnet18",
            "config": {"stem": "mnist", "T": 3, "widths": [8, 16], "pairs": [1, 1], "neuron": "tet"},
            "transforms": [{"name": "quantize", "config": lsq}],
        },
        "data": {"name": "digits", "validation": 100, "train_size": 400},
        "train": {"epochs": 4, "batch_size": 32, "lr": 0.01, "accelerator": "cpu"},
    }
    (folder / "recipe.yaml").write_text(dump(parse(recipe)))
    assert run(["train", str(folder / "recipe.yaml"), "--out", str(folder / "run"), "--quiet", "--set", "seed=0"]) == 0
    assert run(["deploy", "build", str(folder / "run")]) == 0
    return folder / "run"


def said(capsys, *arguments, code=0):
    capsys.readouterr()
    assert run([str(a) for a in arguments]) == code
    captured = capsys.readouterr()
    return captured.err if code == 2 else captured.out


def test_a_program_is_verified_on_the_test_images(place, capsys):
    found = json.loads(said(capsys, "deploy", "verify", place / "program.sacc", place, "--json", "--images", "120"))
    assert found["different"] == 0
    assert found["images"] == found["same_class"] == 120
    assert found["accuracy_program"] == found["accuracy_model"] > 0.2
    assert found["levels"] > 1000
    words = said(capsys, "deploy", "verify", place / "program.sacc", place, "--images", "20")
    assert "20 images" in words
    assert "0 differ from the model in float64" in words


def test_what_differs_is_counted(place, capsys, tmp_path):
    coarse = tmp_path / "coarse.sacc"
    assert "wrote" in said(capsys, "deploy", "build", place, "--out", coarse, "--weight-bits", "2", "--fraction", "2")
    arguments = ("deploy", "verify", coarse, place, "--images", "40", "--json")
    found = json.loads(said(capsys, *arguments, code=1))
    assert found["different"] == sum(found["by_layer"].values()) > 0
    said(capsys, *arguments, "--most", found["different"])  # the stated bound: exit code 0


def test_pictures_and_the_list_of_operations(place, capsys, tmp_path):
    picture = tmp_path / "digit.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20), dtype=np.uint8)).save(picture)
    words = said(capsys, "deploy", "run", place / "program.sacc", picture)
    assert re.search(r"digit\.png: \d \(\d+\.\d%\)", words)  # the classes of digits are named 0 to 9
    assert " ms" in words
    assert len(json.loads(said(capsys, "deploy", "run", place / "program.sacc", tmp_path, "--json"))) == 1
    (tmp_path / "empty").mkdir()
    words = said(capsys, "deploy", "run", place / "program.sacc", tmp_path / "empty", code=2)
    assert "empty: a folder without pictures" in words
    table = said(capsys, "deploy", "inspect", place / "program.sacc")
    assert "synapse" in table
    assert "membrane" in table


def test_errors_are_one_line(place, capsys, tmp_path):
    assert "not a program file of saccade" in said(capsys, "deploy", "inspect", place / "recipe.yaml", code=2)
    assert "neither a model file nor a run directory" in said(capsys, "deploy", "build", tmp_path / "nothing", code=2)
    assert "fraction must be 1 to 40" in said(capsys, "deploy", "build", place, "--fraction", "99", code=2)
    (tmp_path / "text.png").write_text("no")
    assert "text.png: unreadable image" in said(
        capsys, "deploy", "run", place / "program.sacc", tmp_path / "text.png", code=2
    )


def test_the_engine_is_verified_and_timed(place, capsys):
    pytest.importorskip("saccade._engine", reason="the native engine is not built")
    arguments = ("deploy", "verify", place / "program.sacc", place, "--engine", "native", "--images", "60", "--json")
    found = json.loads(said(capsys, *arguments))
    assert found["different"] == 0
    assert found["levels"] > 1000
    arguments = ("deploy", "bench", place / "program.sacc", "--calls", "10", "--batch", "3", "--against", place)
    times = json.loads(said(capsys, *arguments, "--json"))
    assert times["batch"] == 3
    assert 0 < times["engine"]["median_ms"] < times["PyTorch"]["median_ms"]
    assert all(layer["microseconds"] > 0 for layer in times["layers"])
    assert all(0 <= rate <= 1 for rate in times["rates"].values())
    assert "pictures a second" in said(capsys, *arguments)
    assert "bytes, steps at once" in said(capsys, "deploy", "inspect", place / "program.sacc")
