"""A task, a data set, a model and a stage of somebody else go the whole way, and no file of the package knows them."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from saccade import data
from saccade.cli.main import run as command
from saccade.experiment import RunDirectory, dump, parse, run
from saccade.files import load_model
from saccade.train import Score, evaluate
from saccade.train.loop import Job

HERE = Path(__file__).parent


@pytest.fixture(scope="module", autouse=True)
def boxes():
    """The plugin; imported only now, as other tests are made of what is registered when tests are collected."""
    return importlib.import_module("boxes_plugin")


def box_recipe(**train):
    return parse(
        {
            "name": "boxes",
            "plugins": ["boxes_plugin"],
            "model": {"name": "box_net", "config": {"T": 3}},
            "data": {
                "name": "made_boxes",
                "config": {"images": 240},
                "validation": 40,
                "test_size": 50,
                "augment": ["flip"],
            },
            "task": {"name": "boxes", "config": {"loss": "l1"}},
            "train": {"epochs": 6, "batch_size": 20, "lr": 0.01, "accelerator": "cpu", "checkpoint_steps": 3, **train},
            "stages": ["profile", "samples", {"name": "largest", "config": {"words": "<largest>"}}],
        }
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory, boxes):
    directory = tmp_path_factory.mktemp("boxes") / "run"
    return directory, run(box_recipe(), directory, quiet=True)


def test_it_trains_and_says_so_in_its_own_terms(whole, boxes):
    directory, summary = whole
    assert summary["task"] == "boxes"
    assert [score["name"] for score in summary["scores"]] == ["mean_iou", "distance"]
    assert summary["chosen_by"] == "best validation mean_iou"
    assert summary["images"] == {"train": 200, "validation": 40, "test": 50}
    assert not {"confusion", "test_accuracy"} & set(summary)
    rows = RunDirectory(directory).metrics()
    assert {"train_mean_iou", "validation_mean_iou", "train_distance", "validation_distance"} <= set(rows[0])
    assert summary["test_mean_iou"] > 0.3 > rows[0]["validation_mean_iou"]
    best = max(rows[1:], key=lambda row: row["validation_mean_iou"])
    assert summary["chosen_epoch"] == best["epoch"]
    assert summary["validation_mean_iou"] == best["validation_mean_iou"]
    splits = data.load({"name": "made_boxes", "config": {"images": 240}}, validation=40, test_size=50)
    assert splits.test[0][1].shape == (4,)
    model = load_model(directory / "model.safetensors")
    assert evaluate(model, splits.test, boxes.BoxTask(boxes.Boxes())).metrics["mean_iou"] == pytest.approx(
        summary["test_mean_iou"]
    )


@pytest.mark.parametrize("steps", [4, 17])
def test_cut_off_inside_an_epoch_it_resumes_to_the_same_bits(whole, tmp_path, monkeypatch, steps):
    directory, summary = whole
    real, count = Job._step, []

    def cut(job, *arguments):
        count.append(1)
        if len(count) > steps:
            raise KeyError("power")
        return real(job, *arguments)

    monkeypatch.setattr(Job, "_step", cut)
    with pytest.raises(KeyError):
        run(box_recipe(), tmp_path / "run", quiet=True)
    monkeypatch.undo()
    resumed = run(box_recipe(), tmp_path / "run", resume=True, quiet=True)
    assert resumed | {"training_seconds": 0} == summary | {"training_seconds": 0}
    one, two = (load_file(path / "model.safetensors") for path in (directory, tmp_path / "run"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    for a, b in zip(*(RunDirectory(path).metrics() for path in (directory, tmp_path / "run")), strict=True):
        assert a | {"seconds": 0} == b | {"seconds": 0}


def test_the_page_has_its_scores_and_its_section_and_nothing_of_classes(whole):
    page = (whole[0] / "report.html").read_text()
    for words in (
        "mean_iou",
        "<h2>Boxes</h2>",
        "&lt;largest&gt;",
        "<h2>Samples and their spikes</h2>",
        "Spikes and energy",
    ):
        assert words in page
    assert "Confusion" not in page
    assert "accuracy" not in page


def test_the_command_line_shows_it(whole, capsys, tmp_path):
    directory, summary = whole
    assert command(["evaluate", str(directory), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mean_iou"] == pytest.approx(summary["test_mean_iou"])
    assert command(["evaluate", str(directory)]) == 0
    assert capsys.readouterr().out.startswith("test: mean_iou 0.")
    assert command(["profile", str(directory), "--images", "10"]) == 0
    assert command(["verify", str(directory)]) == 0
    capsys.readouterr()
    Image.fromarray(np.zeros((12, 12), np.uint8)).save(tmp_path / "dark.png")
    assert command(["predict", str(directory), str(tmp_path / "dark.png"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)[0]["output"]) == 4
    assert command(["predict", str(directory), str(tmp_path / "dark.png")]) == 0
    assert "dark.png: output [" in capsys.readouterr().out
    for listing in (["data", "list"], ["tasks"], ["stages"]):
        assert command(listing) == 0
        assert "[boxes_plugin]" in capsys.readouterr().out


def test_what_does_not_fit_the_task_is_named(tmp_path, make_recipe):
    with pytest.raises(ValueError, match="model.config: boxes are 4 numbers, and these images have other targets"):
        run(make_recipe(task="boxes"), tmp_path / "run", quiet=True)
    raw = box_recipe().model_dump(mode="json")
    with pytest.raises(
        ValueError, match="model.config: classification needs class labels, and these images have other"
    ):
        run(raw | {"task": "classification"}, tmp_path / "run", quiet=True)
    raw["data"]["augment"] = ["crop"]
    with pytest.raises(ValueError, match=r"data.augment: this task does not say what becomes of a target under crop"):
        run(raw, tmp_path / "run", quiet=True)
    raw["data"]["augment"], raw["model"]["config"] = [], {"side": 9}
    with pytest.raises(ValueError, match=r"model.config: the model fails on the images: .*shapes"):
        run(raw, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_from_the_shell_with_the_plugin_named(tmp_path):
    """Before the command or after it; without it the recipe is refused in one line that says what to do."""
    (tmp_path / "boxes.yaml").write_text(dump(box_recipe(epochs=1)))
    base = [sys.executable, "-m", "saccade"]
    train = ["train", str(tmp_path / "boxes.yaml"), "-q", "--out"]
    options = {"capture_output": True, "text": True, "cwd": HERE, "timeout": 120}
    refused = subprocess.run([*base, *train, str(tmp_path / "none")], **options)
    assert refused.returncode == 2
    assert "needs the plugin boxes_plugin; load it with --plugin boxes_plugin, or install it" in refused.stderr
    assert refused.stderr.count("\n") == 1
    done = subprocess.run([*base, *train, str(tmp_path / "run"), "--plugin", "boxes_plugin"], **options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("test mean_iou 0.")
    scored = subprocess.run([*base, "--plugin=boxes_plugin", "evaluate", str(tmp_path / "run")], **options)
    assert scored.returncode == 0, scored.stderr


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        ("nowhere.at_all", "--plugin nowhere.at_all: cannot be imported (ModuleNotFoundError"),
        ("broken_plugin", "--plugin broken_plugin: cannot be imported (ZeroDivisionError"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_one_line(tmp_path, monkeypatch, capsys, plugin, words):
    (tmp_path / "broken_plugin.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    assert command(["tasks", "--plugin", plugin]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_scores_know_their_better_end():
    assert Score("iou").better(0.4, None)
    assert Score("iou").better(0.4, 0.3)
    assert not Score("iou").better(0.3, 0.3)
    assert Score("loss", "min").better(0.2, 0.3)
    assert Score("loss", "min").better(0.2, float("nan"))
    assert not Score("loss", "min").better(float("nan"), 0.3)
    assert not Score("loss", "min").better(0.3, 0.3)
    assert (Score("accuracy", percent=True).text(0.5), Score("iou").text(0.5), Score("iou").text(None)) == (
        "50.00%",
        "0.5",
        "–",
    )


def test_sequences_come_with_time_first_and_train(tmp_path, monkeypatch, boxes):
    """A set whose samples have steps, of counts: [T, n, C, H, W], not divided by 255."""
    images = torch.randint(0, 4, (30, 3, 1, 12, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    targets = torch.rand(30, 4, generator=torch.Generator().manual_seed(1))
    events = data.ArraySet(images, targets, scale=1.0)
    assert events.sequences
    x, y = next(data.batches(events, 4, seed=None))
    assert torch.equal(x, images[:4].transpose(0, 1).float())
    assert torch.equal(y, targets[:4])
    mapped = data.MappedSet(events, lambda pixels: pixels.flip(-1))
    assert torch.equal(mapped[3][0], images[3].flip(-1))
    monkeypatch.setattr(boxes.MadeBoxes, "read", lambda self, root: data.Parts(events, events))
    with pytest.raises(ValueError, match="made_boxes: its images and its record differ in scale or time axis"):
        data.load("made_boxes", validation=4)
    monkeypatch.setattr(boxes.MadeBoxes, "scale", 1.0)
    monkeypatch.setattr(boxes.MadeBoxes, "sequences", True)
    raw = box_recipe(batch_size=10, epochs=1).model_dump(mode="json")
    raw["data"] |= {"config": {}, "augment": [], "validation": 6, "test_size": 10}
    summary = run(raw, tmp_path / "run", quiet=True)
    assert summary["images"] == {"train": 24, "validation": 6, "test": 10}


def test_sets_without_classes_split_too():
    one, two = (data.load("made_boxes", validation=40, train_size=60, test_size=30, seed=seed) for seed in (0, 1))
    assert [len(part) for part in one] == [60, 40, 30]
    assert not torch.equal(one.validation.targets, two.validation.targets)
    again = data.load("made_boxes", validation=40, train_size=20, seed=0)
    assert torch.equal(again.validation.targets, one.validation.targets)
