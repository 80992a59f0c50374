"""The stage "natural_pruning": shortcuts that never fire go."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from saccade.compress import natural_pruning
from saccade.data import Splits, image_batches
from saccade.experiment.building import build_model
from saccade.experiment.stages.base import STAGES, Finished, StageConfig
from saccade.files import fit_weights, save_model
from saccade.models import SpikingModel
from saccade.train import checkpoint
from saccade.transforms import spiking_shortcuts

if TYPE_CHECKING:
    from saccade.experiment.recipe import Recipe
    from saccade.experiment.run_directory import RunDirectory


@dataclass(frozen=True)
class NaturalPruning(StageConfig):
    """pruned.safetensors and pruning.json: shortcuts that never fired on training and validation data are removed."""

    def check(self, recipe: Recipe, model: SpikingModel, splits: Splits) -> None:
        if not spiking_shortcuts(model):
            raise ValueError("the model has no spiking shortcuts, so there is nothing that it could remove")

    def run(self, finished: Finished) -> dict[str, Any]:
        run, test = finished.run, finished.splits.test
        chosen = finished.summary["chosen_epoch"]
        pruned, report = prune_run(finished.model, finished.recipe, finished.splits, run, chosen)
        if report["removed"]:
            save_model(pruned, run.path / "pruned.safetensors", test.classes, test.shape)
        run.write_json("pruning.json", report)
        return {"pruning": {key: report[key] for key in ("removed", "saved_parameters", "measured", "test")}}


def prune_run(
    model: SpikingModel,
    recipe: Recipe,
    splits: Splits,
    run: RunDirectory,
    chosen_epoch: int,
    progress: Callable[[str, int], None] | None = None,
) -> tuple[SpikingModel, dict[str, Any]]:
    """Natural pruning of a run's model on the run's own data, against its initial weights and its history until then."""

    def training_and_validation() -> Iterable[Tensor]:
        yield from image_batches(splits.train)
        yield from image_batches(splits.validation)

    initial = None
    start = run.checkpoint("initial")
    if start.exists():
        initial = build_model(recipe.model).eval()
        fit_weights(initial, checkpoint.load(start)[0]["model"], str(start))
    history = [row for row in run.metrics() if (row["epoch"] or 0) <= chosen_epoch]  # later epochs are other weights
    return natural_pruning(
        model, training_and_validation, lambda: image_batches(splits.test), initial, history, progress
    )


STAGES.register("natural_pruning", NaturalPruning())
