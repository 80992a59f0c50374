"""Whole runs on digits from Python: they learn, resume exactly, stop gracefully, and fail in one line."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from saccade.experiment import STAGES, RunDirectory, StageConfig, dump
from saccade.experiment import run as run_recipe
from saccade.files import load_model
from saccade.layers import Conv2d
from saccade.train import Classification, TrainingError
from saccade.train.tasks.classification import ClassificationTask

pytest.importorskip("sklearn", reason="the digits need scikit-learn")


def train(recipe, directory, **options):
    """A run without its report, which most tests do not read."""
    return run_recipe(recipe, directory, report=False, **options)


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


def equal(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@dataclass(frozen=True)
class Note(StageConfig):
    """What a stage gets."""

    def run(self, finished):
        return {"noted": finished.model.training}


STAGES.register("note", Note())


def test_a_run_leaves_what_it_promises(tmp_path, make_recipe):
    changes = {"train__epochs": 10, "train__batch_size": 16, "train__lr": 0.01, "task__config__label_smoothing": 0.1}
    recipe = make_recipe(**changes, model__config__widths=[8, 16], train__ema=0.5, stages=["note"])
    summary = train(recipe, tmp_path / "run", quiet=True)
    run = RunDirectory(tmp_path / "run")
    assert {p.name for p in run.path.iterdir()} == {
        *("recipe.yaml", "env.json", "metrics.csv", "model.safetensors", "checkpoints", "summary.json")
    }
    assert run.recipe() == recipe
    assert run.read_json("summary.json") == summary
    assert summary["noted"] is False
    assert summary["images"] == {"train": 256, "validation": 100, "test": 100}
    rows = run.metrics()
    assert [row["epoch"] for row in rows] == list(range(11))
    assert rows[0]["train_loss"] is None  # epoch 0 is the untrained model
    assert "rate/blocks.1.shortcut.neuron" in rows[0]
    assert rows[-1]["train_loss"] < rows[1]["train_loss"] - 0.2
    assert summary["test_accuracy"] > 0.3  # chance is 0.1
    best = max(rows, key=lambda row: row["validation_accuracy"])
    assert summary["chosen_epoch"] == best["epoch"] or best["epoch"] == 0
    assert sum(map(sum, summary["confusion"])) == 100
    # the model file scores what the summary says
    from saccade.data import load
    from saccade.train import evaluate

    data = load("digits", validation=100, train_size=256, test_size=100)
    model = load_model(run.path / "model.safetensors")
    found = evaluate(model, data.test, Classification().build(model))
    assert found.metrics["accuracy"] == summary["test_accuracy"]


@pytest.mark.parametrize(
    "changes",
    [{"train__optimizer": "sgd", "train__lr": 0.05, "task__config__loss": "mse"}, {"task__config__loss": "tet"}],
)
def test_the_same_seed_gives_the_same_weights(tmp_path, make_recipe, changes):
    recipe = make_recipe(data__augment=["crop", "flip", "mixup"], data__crop_padding=1, train__clip_norm=1.0, **changes)
    for name in ("a", "b"):
        train(recipe, tmp_path / name, quiet=True)
    train(recipe.model_copy(update={"seed": 1}), tmp_path / "c", quiet=True)
    assert equal(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not equal(weights(tmp_path / "a"), weights(tmp_path / "c"))


RUN = """
import sys, torch
torch.set_num_threads(1)
from saccade.experiment import run
from saccade.train import Interrupted
try:
    run(sys.argv[1], sys.argv[2], resume=len(sys.argv) > 3, report=False)
except Interrupted as stop:
    print(stop)
    sys.exit(130)
"""


def start(recipe: Path, directory: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-c", RUN, str(recipe), str(directory), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def long_recipe(tmp_path, make_recipe):
    """Enough epochs to be interrupted, checkpoints inside epochs, everything that has state or draws at random."""
    recipe = make_recipe(
        train__epochs=8,
        train__ema=0.9,
        train__checkpoint_steps=2,
        train__warmup_epochs=0.5,
        data__augment=["crop", "cutout"],
        data__crop_padding=1,
        data__cutout_size=2,
    )
    path = tmp_path / "recipe.yaml"
    path.write_text(dump(recipe))
    return recipe, path


def test_a_killed_run_resumes_to_the_same_weights(tmp_path, long_recipe):
    recipe, path = long_recipe
    train(recipe, tmp_path / "whole", quiet=True)
    killed = tmp_path / "killed"
    process = start(path, killed)
    metrics = killed / "metrics.csv"
    wait_for(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 3, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (killed / "summary.json").exists()
    resumed = start(path, killed, "resume")
    _, err = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, err
    assert "resumed after epoch" in err
    assert equal(weights(tmp_path / "whole"), weights(killed))
    one, two = (RunDirectory(tmp_path / name) for name in ("whole", "killed"))
    for a, b in zip(one.metrics(), two.metrics(), strict=True):
        assert a | {"seconds": 0} == b | {"seconds": 0}
    for key in ("test_accuracy", "test_loss", "chosen_epoch", "confusion"):
        assert one.read_json("summary.json")[key] == two.read_json("summary.json")[key]


def test_ctrl_c_saves_in_the_middle_of_an_epoch(tmp_path, long_recipe):
    recipe, path = long_recipe
    train(recipe, tmp_path / "whole", quiet=True)
    directory = tmp_path / "stopped"
    process = start(path, directory)
    metrics = directory / "metrics.csv"
    wait_for(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 2, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "everything is saved" in out
    assert "Traceback" not in err
    resumed = start(path, directory, "resume")
    _, err = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, err
    assert equal(weights(tmp_path / "whole"), weights(directory))


def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint(tmp_path, make_recipe, monkeypatch):
    real, calls = ClassificationTask.loss, []

    def poisoned(task, output, target):
        calls.append(output)
        return real(task, output, target) * (float("nan") if len(calls) > 6 else 1)

    monkeypatch.setattr(ClassificationTask, "loss", poisoned)
    with pytest.raises(
        TrainingError, match=r"not finite in epoch 2, step \d; the last good checkpoint is .*last.*lower train.lr"
    ):
        train(make_recipe(train__epochs=3), tmp_path / "run", quiet=True)
    kept = load_file(tmp_path / "run" / "checkpoints" / "last" / "state.safetensors")
    assert all(value.isfinite().all() for value in kept.values())


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path, make_recipe, monkeypatch):
    import saccade.files.tensors as files

    real = files.save_file

    def full(tensors, path, metadata):
        if "last" in str(path) and (tmp_path / "run" / "checkpoints" / "last" / "state.safetensors").exists():
            path.write_bytes(b"half a checkpoint")
            raise OSError(28, "No space left on device")
        real(tensors, path, metadata)

    monkeypatch.setattr(files, "save_file", full)
    with pytest.raises(OSError, match="could not be written .*No space left on device.*untouched"):
        train(make_recipe(train__epochs=3), tmp_path / "run", quiet=True)
    folder = tmp_path / "run" / "checkpoints" / "last"
    assert [p.name for p in folder.iterdir()] == ["state.safetensors"]
    monkeypatch.setattr(files, "save_file", real)
    train(make_recipe(train__epochs=3), tmp_path / "run", resume=True, quiet=True)


def test_directories_in_use_and_other_recipes(tmp_path, make_recipe):
    recipe = make_recipe(train__epochs=1)
    train(recipe, tmp_path / "run", quiet=True)
    with pytest.raises(ValueError, match="run: holds a run already; resume it"):
        train(recipe, tmp_path / "run", quiet=True)
    with pytest.raises(ValueError, match="run: was started with another recipe"):
        train(make_recipe(train__epochs=2), tmp_path / "run", resume=True, quiet=True)
    with pytest.raises(ValueError, match="new: no run to resume here"):
        train(recipe, tmp_path / "new", resume=True, quiet=True)
    with pytest.raises(ValueError, match=r"stages.0: unknown stage 'shrink' \(`saccade stages` lists all\)"):
        make_recipe(stages=["shrink"])


def test_the_checkpoint_of_another_model_is_named(tmp_path, make_recipe):
    train(make_recipe(train__epochs=1), tmp_path / "a", quiet=True)
    other = make_recipe(train__epochs=1, model__config__widths=[4, 6])
    train(other, tmp_path / "b", quiet=True)
    (tmp_path / "a" / "summary.json").unlink()  # cut off before the end
    last = Path("checkpoints") / "last" / "state.safetensors"
    (tmp_path / "a" / last).write_bytes((tmp_path / "b" / last).read_bytes())
    with pytest.raises(ValueError, match="belongs to another model"):
        train(make_recipe(train__epochs=1), tmp_path / "a", resume=True, quiet=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__config__stem": "cifar"}, "model.config: the model takes 3 channels, the images have 1"),
        ({"model__config__num_classes": 7}, "model.config: the model has 7 classes, the images have 10"),
        ({"train__batch_size": 512}, "train.batch_size: 512 is more than the 256 training images"),
        ({"data__augment": ["warp"]}, "warp"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, make_recipe, changes, message):
    with pytest.raises(ValueError, match=message):
        train(make_recipe(**changes), tmp_path / "run", quiet=True)
    if "train__batch_size" not in changes:
        assert not (tmp_path / "run").exists()  # refused before anything is written


DDP = """
import sys, torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[3])
import norm_free  # registers the model, in both processes
from saccade.experiment import run
if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], quiet=True)
"""


@pytest.mark.parametrize("model", ["norm_free", "or_resnet18"])
def test_two_processes_train_as_one(tmp_path, make_recipe, model):
    """Gloo, two ranks: the same weights to rounding without batch norm; with it (statistics per rank) it runs and learns."""
    config = {} if model == "norm_free" else make_recipe().model.config
    base = {
        "model__name": model,
        "model__config": config,
        "train__epochs": 3,
        "train__optimizer": "sgd",
        "train__lr": 0.1,
    }
    script = tmp_path / "run.py"
    script.write_text(DDP)
    for devices, name in ((1, "one"), (2, "two")):
        recipe = make_recipe(**base, train__devices=devices)
        (tmp_path / f"{name}.yaml").write_text(dump(recipe))
        command = [
            sys.executable,
            str(script),
            str(tmp_path / f"{name}.yaml"),
            str(tmp_path / name),
            str(Path(__file__).parent),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    rows = [RunDirectory(tmp_path / name).metrics() for name in ("one", "two")]
    assert [row["epoch"] for row in rows[1]] == [0, 1, 2, 3]  # only rank 0 writes
    if model == "norm_free":
        for key, value in one.items():
            assert torch.allclose(value, two[key], atol=1e-5), key
        assert rows[0][3]["train_loss"] == pytest.approx(rows[1][3]["train_loss"], rel=1e-4)
        assert rows[0][3]["train_accuracy"] == rows[1][3]["train_accuracy"]
    else:
        assert rows[1][3]["train_loss"] < rows[1][1]["train_loss"]
    summary = json.loads((tmp_path / "two" / "summary.json").read_text())
    assert summary["test_total"] == 100


def losses(tmp_path, name, recipe):
    train(recipe, tmp_path / name, quiet=True)
    return [row["train_loss"] for row in RunDirectory(tmp_path / name).metrics()[1:]]


def test_mixed_precision_and_channels_last_train_alike(tmp_path, make_recipe):
    plain = losses(tmp_path, "plain", make_recipe(train__epochs=3))
    mixed = losses(
        tmp_path, "mixed", make_recipe(train__epochs=3, train__precision="bf16-mixed", train__channels_last=True)
    )
    assert mixed != plain
    assert mixed == pytest.approx(plain, rel=0.1)
    assert mixed[-1] < mixed[0]


@pytest.mark.slow
def test_a_compiled_model_trains_alike(tmp_path, make_recipe):
    plain = losses(tmp_path, "plain", make_recipe(train__epochs=3))
    assert losses(tmp_path, "compiled", make_recipe(train__epochs=3, train__compile=True)) == pytest.approx(
        plain, rel=0.05
    )


def test_a_recipe_quantizes_before_it_trains(make_recipe, tmp_path):
    """The run's model file replays the transform; the weights in use have at most four values a channel."""
    quantize = {"name": "quantize", "config": {"method": "rescaw", "bits": 2}}
    recipe = make_recipe(model__transforms=[quantize], train__epochs=20, train__batch_size=32)
    summary = train(recipe, tmp_path / "run", quiet=True)
    model = load_model(tmp_path / "run" / "model.safetensors")
    forms = [m for m in model.modules() if getattr(m, "form", None) is not None]
    assert len(forms) == len([m for m in model.modules() if isinstance(m, Conv2d)]) - 1
    assert all(len(channel.unique()) <= 4 for m in forms for channel in m.used_weight())
    assert summary["test_accuracy"] > 0.3
    with pytest.raises(ValueError, match="model.transforms.0: quantize takes no 'bit'; did you mean 'bits'"):
        train(make_recipe(model__transforms=[{"name": "quantize", "config": {"bit": 2}}]), tmp_path / "bad", quiet=True)
