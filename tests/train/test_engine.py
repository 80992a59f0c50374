"""The engine by itself: a model, a task, images and settings, without a recipe."""

import pytest
import torch

from saccade.data import load
from saccade.files import load_model
from saccade.models import create_model
from saccade.train import Classification, Reporter, TrainSettings, engine, evaluate, launch, train

pytest.importorskip("sklearn", reason="the digits need scikit-learn")


class Rows(Reporter):
    """Keeps what it is told."""

    def __init__(self):
        self.rows = []

    def epoch_done(self, row):
        self.rows.append(row)


def test_a_model_is_trained_without_a_recipe(tmp_path):
    splits = load("digits", validation=100, train_size=320, test_size=100)
    settings = TrainSettings(epochs=5, batch_size=32, lr=0.01, accelerator="cpu")
    torch.manual_seed(0)
    model = create_model("or_resnet18", stem="mnist", T=2, widths=(8, 16), pairs=(1, 1))
    task = Classification(loss="tet").build(model, splits.train.classes)
    reporter = Rows()

    def work(fabric):
        return train(fabric, model, task, splits, settings, tmp_path, seed=3, reporter=reporter)

    found = launch(settings, work)
    assert [row["epoch"] for row in reporter.rows] == list(range(6))
    assert reporter.rows[-1]["train_loss"] < reporter.rows[1]["train_loss"]
    stored = load_model(tmp_path / "model.safetensors")
    assert all(torch.equal(value, stored.state_dict()[key]) for key, value in model.state_dict().items())
    assert evaluate(stored, splits.test, task).metrics["accuracy"] == found["test_accuracy"]
    assert {"scores", "chosen_epoch", "test_loss", "confusion"} <= set(found)


def test_a_model_that_no_file_could_hold_is_refused_before_it_is_trained(tmp_path):
    splits = load("digits", validation=100, train_size=320, test_size=100)
    model = create_model("or_resnet18", stem="mnist", T=2, widths=(8, 16), pairs=(1, 1))
    task = Classification().build(model, splits.train.classes)
    settings = TrainSettings(epochs=1, batch_size=32, lr=0.01, accelerator="cpu")
    model.name = None
    with pytest.raises(ValueError, match=r"register SynaResNet under a name .*docs/plugins\.md"):
        launch(settings, lambda fabric: train(fabric, model, task, splits, settings, tmp_path))
    assert not list(tmp_path.iterdir())


def test_precision_is_bf16_only_where_it_is_not_emulated(monkeypatch):
    def settings(precision):
        return TrainSettings(epochs=1, batch_size=1, lr=1e-3, accelerator="cpu", precision=precision)

    for quick in (True, False):
        monkeypatch.setattr(engine, "_has_bf16_instructions", lambda quick=quick: quick)
        monkeypatch.setattr(engine.platform, "machine", lambda: "x86_64")
        assert engine.precision_for(settings("auto")) == ("bf16-mixed" if quick else "32-true")
        assert engine.precision_for(settings("32-true")) == "32-true"
    assert engine.precision_for(settings("bf16-mixed")) == "bf16-mixed"
    with pytest.warns(UserWarning, match="bf16-mixed is emulated"):
        assert launch(settings("bf16-mixed"), lambda fabric: 7) == 7
