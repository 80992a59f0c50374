"""experiment.run is what the command line calls; places and paths are taken as they are typed."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from saccade.cli.main import run as command
from saccade.experiment import RunDirectory, dump, load_splits, open_run, parse, run, splits_for
from saccade.train import TrainingError

pytest.importorskip("sklearn", reason="the digits need scikit-learn")


def test_python_and_the_command_line_run_the_same(tmp_path, make_recipe, capsys):
    recipe = make_recipe(stages=["profile", "natural_pruning", "samples"], data__augment=["flip", "cutmix"])
    (tmp_path / "r.yaml").write_text(dump(recipe))
    summary = run(recipe, tmp_path / "python", quiet=True)
    assert command(["train", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "shell"), "-q", "--json"]) == 0
    shell = json.loads(capsys.readouterr().out)
    assert summary | {"training_seconds": 0} == shell | {"training_seconds": 0}
    names = [{file.name for file in (tmp_path / name).iterdir()} for name in ("python", "shell")]
    assert names[0] == names[1] >= {"report.html", "summary.json", "profile.json", "pruning.json", "samples.npz"}
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("python", "shell"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_recipe_may_be_a_mapping_a_file_or_a_name(tmp_path, make_recipe, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw = make_recipe(train__epochs=1).model_dump(mode="json")
    run(raw, quiet=True, report=False)
    place = RunDirectory(tmp_path / "runs" / "test-digits-seed0")
    assert place.recipe() == parse(raw)
    assert place.finished()
    (tmp_path / "r.yaml").write_text(dump(parse(raw | {"seed": 1})))
    assert run("r.yaml", quiet=True, report=False)["seed"] == 1
    file, recipe = open_run(place.path)
    assert file == place.path / "model.safetensors"
    assert [len(part) for part in splits_for(recipe)] == [len(part) for part in load_splits(parse(raw).data)]
    with pytest.raises(ValueError, match="no recipe 'nothing'"):
        run("nothing")


def test_without_matplotlib_there_is_a_warning_and_no_page(tmp_path, make_recipe, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.warns(UserWarning, match="run: no report.html was written"):
        summary = run(make_recipe(train__epochs=1), tmp_path / "run", quiet=True)
    assert RunDirectory(tmp_path / "run").read_json("summary.json") == summary
    assert not (tmp_path / "run" / "report.html").exists()


def write_pictures(root, count=12):
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in "ab":
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(root / part / name / f"{i}.png")


@pytest.fixture
def pictures_recipe(tmp_path, monkeypatch):
    """A recipe file for folders of small pictures; works in tmp_path."""
    monkeypatch.chdir(tmp_path)
    model = {"name": "or_resnet18_small", "config": {"T": 2, "num_classes": 2, "widths": [4, 4], "pairs": [1, 1]}}
    recipe = parse(
        {
            "name": "pictures",
            "model": model,
            "data": {"name": "folder", "config": {"size": 8}, "root": "fs", "validation": 4},
            "train": {"epochs": 1, "batch_size": 4, "lr": 1e-3, "accelerator": "cpu"},
        }
    )
    (tmp_path / "r.yaml").write_text(dump(recipe))
    return tmp_path


@pytest.mark.parametrize("name", ["data #1", "2024", "a: b", "null"])
def test_a_data_folder_may_have_any_name(pictures_recipe, name):
    write_pictures(pictures_recipe / name)
    assert command(["train", "r.yaml", "--data", name, "--out", "run", "-q"]) == 0
    assert RunDirectory(pictures_recipe / "run").recipe().data.root == name


def test_a_run_goes_on_with_its_images_elsewhere(pictures_recipe, capsys):
    write_pictures(pictures_recipe / "fs")
    assert command(["train", "r.yaml", "--out", "run", "-q"]) == 0
    shutil.move("fs", "moved")
    (pictures_recipe / "run" / "summary.json").unlink()
    assert command(["train", "--resume", "run", "--data", "nowhere", "-q"]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert RunDirectory(pictures_recipe / "run").recipe().data.root == "fs"
    assert command(["train", "--resume", "run", "--data", "moved", "-q"]) == 0
    assert RunDirectory(pictures_recipe / "run").recipe().data.root == "moved"
    assert command(["evaluate", "run"]) == 0


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("model.config.T=2.5", "saccade: model"),
        ("model.config.widths=wide", "saccade: model: "),
        ("data.config.size=large", "size"),
        ("data.config.size=8.5", "size"),
        ("train.epochs=many", "train.epochs: Input should be a valid integer"),
        ("task.config.loss=hinge", "task: classification: loss: Input should be 'ce', 'mse' or 'tet'"),
        ("task.config.label_smoothing=1.5", "task: classification: label_smoothing: Input should be less than 1"),
    ],
)
def test_wrong_types_are_one_line_before_anything_is_trained(pictures_recipe, capsys, setting, words):
    write_pictures(pictures_recipe / "fs")
    assert command(["train", "r.yaml", "--out", "run", "-q", "--set", setting]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
    assert not (pictures_recipe / "run").exists()


def test_two_runs_in_one_directory_are_refused(tmp_path, make_recipe):
    place = RunDirectory(tmp_path / "run")
    with place.in_use(), pytest.raises(ValueError, match="run: another process is at work in this directory"):
        run(make_recipe(), place.path, quiet=True)
    assert not place.path.exists()  # and nothing is left behind
    run(make_recipe(train__epochs=1), place.path, quiet=True, report=False)


def test_two_processes_end_with_stages_and_a_report(tmp_path, make_recipe):
    recipe = make_recipe(train__epochs=1, train__devices=2, stages=["profile", "natural_pruning", "samples"])
    (tmp_path / "r.yaml").write_text(dump(recipe))
    line = [sys.executable, "-m", "saccade", "train", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "run"), "-q"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test accuracy") == 1
    assert RunDirectory(tmp_path / "run").finished()
    assert (tmp_path / "run" / "report.html").exists()


def test_settings_reach_into_lists_by_name_or_number(make_recipe):
    from saccade.experiment import override

    raw = {"stages": ["profile", {"name": "prune", "config": {"ratio": 0.3}}], "task": "classification"}
    changes = ["stages.prune.config.ratio=0.5", "stages.0.config.images=9", "task.config.loss=tet"]
    assert override(raw, changes) == {
        "stages": [{"name": "profile", "config": {"images": 9}}, {"name": "prune", "config": {"ratio": 0.5}}],
        "task": {"name": "classification", "config": {"loss": "tet"}},
    }
    with pytest.raises(ValueError, match="no entry 'prone' here; there are profile, prune"):
        override(raw, ["stages.prone.config.ratio=1"])
    with pytest.raises(ValueError, match="'ratio' is a value, not a section"):
        override(raw, ["stages.prune.config.ratio.x=1"])


@pytest.mark.parametrize(
    "change", [{"train__devices": 100_000, "train__batch_size": 100_000}, {"data__workers": 100_000}]
)
def test_more_processes_than_cores_are_refused_before_any_starts(make_recipe, tmp_path, change, monkeypatch):
    recipe = make_recipe(**change)
    with pytest.raises(ValueError, match=r"100,000 processes for \d+ cores"):
        run(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("SACCADE_MAX_PROCESSES", "1")
    with pytest.raises(ValueError, match="at most"):
        run(recipe, tmp_path / "run")


def test_weights_that_stop_being_finite_stop_the_run(make_recipe, tmp_path):
    """A potential that is not finite never fires, so the loss of a diverged network stays finite."""
    recipe = make_recipe(
        model={"name": "rows_mlp"}, train__optimizer="sgd", train__lr=1e20, train__epochs=3, train__checkpoint_steps=3
    )
    with pytest.raises(TrainingError, match=r"is not finite (after|in) epoch \d+, step \d+; .*train.lr"):
        run(recipe, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    for path in (tmp_path / "run" / "checkpoints").rglob("*.safetensors"):
        assert all(value.isfinite().all() for value in load_file(path).values() if value.is_floating_point()), path


def test_training_does_not_go_on_from_weights_that_are_not_finite(make_recipe, tmp_path):
    whole = run(make_recipe(train__epochs=1), tmp_path / "first", quiet=True)
    assert whole["epochs"] == 1
    file = tmp_path / "first" / "model.safetensors"
    tensors = load_file(file)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    key = next(key for key in tensors if key.endswith("weight"))
    tensors[key].flatten()[0] = float("nan")
    save_file(tensors, file, metadata)
    recipe = make_recipe(model={"start": str(file)}, train__epochs=1)
    with pytest.raises((ValueError, TrainingError), match="finite"):
        run(recipe, tmp_path / "second", quiet=True)
