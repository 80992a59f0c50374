"""A network of event frames from a folder of recordings to a stream, by commands."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from saccade.cli.main import run
from saccade.events import EventStream, open_events, write_events
from saccade.events.framing import Framing
from saccade.experiment.streaming import answers, framing_of, steps_of, streamed
from saccade.files import load_model, model_info, save_model
from saccade.train import Classification
from saccade.transforms import fuse

SIDE = 16
RECIPE = {
    "name": "blobs",
    "model": {
        "name": "or_resnet18",
        "config": {
            "stem": "mnist",
            "in_channels": 2,
            "T": 4,
            "widths": [4, 8],
            "pairs": [1, 1],
            "neuron": "tet",
            "num_classes": 2,
        },
    },
    "data": {
        "name": "event-folder",
        "config": {
            "height": SIDE,
            "width": SIDE,
            "windows": {"name": "time", "config": {"duration_us": 1000, "frames": 4}},
        },
        "validation": 4,
        "augment": ["crop", "eventdrop"],
        "crop_padding": 1,
    },
    "train": {"epochs": 10, "batch_size": 4, "optimizer": "adam", "lr": 1e-2, "accelerator": "cpu", "choose": "last"},
}


def blob(label, seed):
    """Events somewhere in 4 ms, 80 % of them off or on."""
    draw = np.random.default_rng(seed)
    t = np.sort(draw.integers(0, 4000, 400)) + 77
    p = np.where(draw.random(400) < 0.8, label, 1 - label)
    return EventStream(t, *draw.integers(0, SIDE, (2, 400)), p, SIDE, SIDE)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with recordings, and a run trained on them."""
    root = tmp_path_factory.mktemp("blobs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SACCADE_CACHE", str(root / "cache"))
        for part, count in (("train", 12), ("test", 4)):
            for label, name in enumerate(("darker", "brighter")):
                (root / part / name).mkdir(parents=True)
                for i in range(count):
                    write_events(
                        root / part / name / f"{i}.events", blob(label, 1000 * label + 100 * (part == "test") + i)
                    )
        (root / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
        assert run(["train", str(root / "recipe.yaml"), "--data", str(root), "--out", str(root / "run"), "-q"]) == 0
    return root


def test_it_learns_and_its_file_says_how_frames_are_made(trained, tmp_path):
    assert json.loads((trained / "run" / "summary.json").read_text())["test_accuracy"] == 1
    record = model_info(trained / "run" / "model.safetensors")["frames"]
    framing = Framing.parse(record)
    assert framing.record() == record
    assert (framing.height, framing.width, framing.binning) == (SIDE, SIDE, 1)
    model = load_model(trained / "run" / "model.safetensors")
    changed = fuse(model, model.example_input()).model
    save_model(changed, tmp_path / "fused.safetensors")
    assert load_model(tmp_path / "fused.safetensors").frames == record


def test_recordings_are_named(trained, capsys):
    files = [str(trained / "test" / name / "0.events") for name in ("darker", "brighter")]
    assert run(["predict", str(trained / "run"), *files]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{files[0]}: darker ")
    assert lines[1].startswith(f"{files[1]}: brighter ")
    assert run(["predict", str(trained / "run"), files[0], str(trained / "none.events")]) == 2


@pytest.mark.parametrize("events", [7, 1 << 20])
def test_a_stream_says_what_the_whole_says(trained, events):
    """The answer after the last window of training is the one for the whole recording, whatever pieces events come in."""
    model = load_model(trained / "run" / "model.safetensors")
    framing = framing_of(model, "it")
    recording = open_events(trained / "test" / "brighter" / "1.events")
    task = Classification().build(model, ("brighter", "darker"))
    pieces = (recording[i : i + events] for i in range(0, len(recording), events))
    found = list(answers(model, task, streamed(framing), pieces, steps_of(framing, model)))
    assert [one.time_us for one in found] == [int(recording.t[0]) + 1000 * k for k in range(1, 5)]
    assert sum(one.events for one in found) == len(recording)
    assert all(one.latency_ms > 0 for one in found)
    with torch.inference_mode():
        whole = task.predictions(model(framing.frames(recording).unsqueeze(1), steps=True), 1)[0]
    assert found[-1].prediction["classes"][0]["class"] == "brighter" == whole["classes"][0]["class"]
    assert found[-1].prediction["classes"][0]["probability"] == pytest.approx(
        whole["classes"][0]["probability"], abs=1e-5
    )


def test_the_command_streams_a_line_a_window(trained, capsys):
    file = str(trained / "test" / "darker" / "2.events")
    assert run(["predict", str(trained / "run"), file, "--stream"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(" us  darker " in line and line.endswith(" ms") for line in lines[1:])
    assert run(["predict", str(trained / "run"), file, "--stream", "--json", "--window-us", "500"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 8
    assert {"time_us", "events", "prediction", "latency_ms"} == set(rows[0])
    assert run(["predict", str(trained / "run"), file, "--stream", "--json", "--window-events", "100"]) == 0
    assert [json.loads(line)["events"] for line in capsys.readouterr().out.splitlines()] == [100] * 4


def test_the_command_streams_a_pipe(trained, tmp_path, monkeypatch, capsys):
    write_events(tmp_path / "events.txt", blob(1, 7))
    with (tmp_path / "events.txt").open("rb") as file:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(file))
        assert run(["predict", str(trained / "run"), "-", "--stream"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert " us  brighter " in lines[-1]


def refused(capsys, *arguments):
    assert run([*map(str, arguments)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    return error


def test_what_cannot_be_streamed_is_refused_by_name(trained, tmp_path, capsys):
    file, model = trained / "test" / "darker" / "0.events", load_model(trained / "run" / "model.safetensors")
    assert "--stream watches one recording" in refused(capsys, "predict", trained / "run", file, file, "--stream")
    assert "belong to --stream" in refused(capsys, "predict", trained / "run", file, "--over", "2")
    both = refused(capsys, "predict", trained / "run", file, "--stream", "--window-us", "5", "--window-events", "5")
    assert "not both" in both
    model.frames = {**model.frames, "windows": {"name": "equal_count", "config": {"frames": 4}}}
    save_model(model, tmp_path / "equal.safetensors", ("brighter", "darker"), (2, SIDE, SIDE))
    error = refused(capsys, "predict", tmp_path / "equal.safetensors", file, "--stream")
    assert "equal_count cuts a recording by where it ends" in error
    assert "--window-us" in error
    assert run(["predict", str(tmp_path / "equal.safetensors"), str(file), "--stream", "--window-us", "1000"]) == 0
    model.frames = {"representation": "count", "windows": "no such"}
    save_model(model, tmp_path / "damaged.safetensors", ("brighter", "darker"), (2, SIDE, SIDE))
    assert "is damaged" in refused(capsys, "predict", tmp_path / "damaged.safetensors", file, "--stream")


def test_a_gate_over_time_is_refused_by_its_path(trained, tmp_path, capsys):
    from saccade.models import create_model

    config = {**RECIPE["model"]["config"], "ma": "T", "ia": "", "position": "b"}
    model = create_model("or_resnet18", **config).eval()
    model.frames = load_model(trained / "run" / "model.safetensors").frames
    save_model(model, tmp_path / "gated.safetensors", ("brighter", "darker"), (2, SIDE, SIDE))
    error = refused(
        capsys, "predict", tmp_path / "gated.safetensors", trained / "test" / "darker" / "0.events", "--stream"
    )
    assert "blocks" in error
    assert "cannot be streamed" in error


def test_a_network_of_pictures_watches_no_events(trained, capsys):
    checkpoint = Path(__file__).parents[2] / "checkpoints" / "digits.safetensors"
    error = refused(capsys, "predict", checkpoint, trained / "test" / "darker" / "0.events", "--stream")
    assert "was not trained on event recordings" in error


def test_events_outside_the_sensor_are_named(trained, tmp_path, capsys):
    wide = EventStream([0, 5], [40, 1], [0, 1], [1, 1], SIDE, 64)
    write_events(tmp_path / "wide.events", wide)
    for more in ([], ["--stream"]):
        assert "wide.events" in refused(capsys, "predict", trained / "run", tmp_path / "wide.events", *more)


def test_it_becomes_whole_numbers(trained, tmp_path, capsys):
    """Counts of events go in; frames that are no whole numbers are refused, with those that are."""
    root = trained / "run"
    assert run(["deploy", "build", str(root), "--data", str(trained), "--out", str(tmp_path / "net.sacc")]) == 0
    assert run(["deploy", "verify", str(tmp_path / "net.sacc"), str(root), "--data", str(trained)]) == 0
    assert "0 differ from the model in float64" in capsys.readouterr().out
    other = tmp_path / "surface"
    shutil.copytree(root, other)
    recipe = yaml.safe_load((other / "recipe.yaml").read_text())
    recipe["data"]["config"]["representation"] = "time_surface"
    (other / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert run(["deploy", "build", str(other), "--data", str(trained)]) == 2
    said = capsys.readouterr().err
    assert "gives numbers that are not whole" in said
    assert "the representations event_frame, count and binary give them" in said
    assert not (other / "program.sacc").exists()
