"""Stages: checked before the first epoch, noted one by one, gone on with after a failure."""

from dataclasses import dataclass

import pytest

from saccade.cli.main import run as command
from saccade.experiment import STAGES, RunDirectory, StageConfig, dump, run
from saccade.train.loop import Job

pytest.importorskip("sklearn", reason="the digits need scikit-learn")


@dataclass(frozen=True)
class Fragile(StageConfig):
    """Fails where a file of its name lies in the run directory."""

    def run(self, finished):
        if (finished.run.path / "broken").exists():
            raise ValueError("it is broken")
        return {"fragile": "held"}


@dataclass(frozen=True)
class Refusing(StageConfig):
    """Fits nothing."""

    def check(self, recipe, model, splits):
        raise ValueError(f"not with {len(splits.test)} test images")


STAGES.register("fragile", Fragile())
STAGES.register("refusing", Refusing())
PLAIN = {"model__name": "plain_resnet18"}


def test_natural_pruning_of_a_model_without_shortcuts_is_refused_before_it_trains(tmp_path, make_recipe):
    recipe = make_recipe(**PLAIN, stages=["profile", "natural_pruning"])
    with pytest.raises(ValueError, match=r"stages.natural_pruning: the model has no spiking shortcuts"):
        run(recipe, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_every_stage_is_checked_and_the_command_line_says_it_in_one_line(tmp_path, make_recipe, capsys):
    (tmp_path / "r.yaml").write_text(dump(make_recipe(stages=["profile", "refusing"])))
    assert command(["train", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "run"), "-q"]) == 2
    assert capsys.readouterr().err == "saccade: stages.refusing: not with 100 test images\n"
    assert not (tmp_path / "run").exists()


def test_a_stage_that_fails_leaves_the_summary_and_the_run_goes_on_from_there(tmp_path, make_recipe, monkeypatch):
    recipe = make_recipe(train__epochs=1, stages=["profile", "fragile", "samples"])
    place = RunDirectory(tmp_path / "run")
    place.path.mkdir()
    (place.path / "broken").touch()
    with pytest.raises(ValueError, match=r"the stage fragile fails: it is broken; .*resume .*run to go on from here"):
        run(recipe, place.path, quiet=True)
    summary = place.read_json("summary.json")
    assert summary["stages_done"] == ["profile"]
    assert summary["profile"]["images"] == 100
    assert not place.finished()
    with pytest.raises(ValueError, match="the stage fragile fails"):
        run(recipe, place.path, resume=True, quiet=True)

    def no_training(*_):
        raise AssertionError("training is done")

    (place.path / "broken").unlink()
    written = (place.path / "model.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(Job, "fit", no_training)
    resumed = run(recipe, place.path, resume=True, quiet=True)
    assert resumed["stages_done"] == ["profile", "fragile", "samples"]
    assert {key: resumed[key] for key in summary if key != "stages_done"} | {"stages_done": ["profile"]} == summary
    assert resumed["fragile"] == "held"
    assert place.read_json("summary.json") == resumed
    assert (place.path / "report.html").exists()
    assert (place.path / "model.safetensors").stat().st_mtime_ns == written
    assert place.finished()


def test_the_stages_take_settings(tmp_path, make_recipe):
    stages = [{"name": "profile", "config": {"images": 20}}, {"name": "samples", "config": {"count": 3, "neurons": 5}}]
    summary = run(make_recipe(train__epochs=1, stages=stages), tmp_path / "run", quiet=True, report=False)
    assert summary["profile"]["images"] == 20
    import numpy as np

    with np.load(tmp_path / "run" / "samples.npz") as arrays:
        assert arrays["images"].shape == (3, 1, 8, 8)
        assert all(arrays[key].shape[2] == 5 for key in arrays.files if key.startswith("raster/"))
        assert len(set(arrays["targets"].tolist())) == 3
    with pytest.raises(ValueError, match="stages.0: profile: images: Input should be greater than or equal to 1"):
        make_recipe(stages=[{"name": "profile", "config": {"images": 0}}])
