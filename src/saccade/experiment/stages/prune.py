"""The stage "prune": channels are scored and removed, and training goes on; the steps of compression as one path."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError

from saccade.compress import recalibrate_
from saccade.compress.pipeline import make_plan, pack, score_channels, step_record, training_images
from saccade.data import Splits
from saccade.experiment.stages.base import STAGES, Finished, StageConfig
from saccade.files import load_model, save_model
from saccade.models import SpikingModel
from saccade.train.settings import TrainSettings
from saccade.transforms import apply, channel_groups

if TYPE_CHECKING:
    from saccade.experiment.recipe import Recipe

CALIBRATION = 1280  # training images on which norms are estimated again
Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class Prune(StageConfig):
    """finetune/, the run that goes on from the pruned model, and compression.json: what each step cost and scored.

    Channels are scored by ``criterion`` on ``batches`` x ``batch_size`` training images; a share of them goes; norms are
    estimated again; training goes on. Exactly one of ``ratio`` (share removed of every group), ``ratios`` (by group) and
    ``budget_kb`` (of the whole model, 10^3 bytes as QP-SNN counts, one ratio for all groups). ``finetune``: keys of the train
    section that differ when training goes on.
    """

    one_process: ClassVar[bool] = True

    criterion: Literal["svs", "sca", "rate", "l1", "bn_gamma", "random"] = "svs"
    ratio: Share | None = None
    ratios: dict[str, Share] | None = None
    budget_kb: Annotated[float, Field(gt=0)] | None = None
    batches: Annotated[int, Field(ge=1)] = 5
    batch_size: Annotated[int, Field(ge=1)] = 128
    finetune: dict[str, Any] = field(default_factory=dict)

    def check(self, recipe: Recipe, model: SpikingModel, splits: Splits) -> None:
        self.check_amount()
        groups = channel_groups(model)
        for name in self.ratios or {}:
            if name not in groups:
                raise ValueError(f"ratios: no group {name!r}; the model has {', '.join(groups)}")
        for key in self.finetune:
            if key not in TrainSettings.model_fields:
                raise ValueError(
                    f"finetune: the section train has no {key!r}; it has {', '.join(TrainSettings.model_fields)}"
                )
        try:
            TrainSettings.model_validate(recipe.train.model_dump() | self.finetune)
        except ValidationError as error:
            first = error.errors()[0]
            words = first["msg"].removeprefix("Value error, ")
            raise ValueError(f"{'.'.join(['finetune', *map(str, first['loc'])])}: {words}") from None

    def check_amount(self) -> None:
        """Raises ValueError unless it is said, once, how much goes."""
        if sum(value is not None for value in (self.ratio, self.ratios, self.budget_kb)) != 1:
            raise ValueError("give exactly one of ratio, ratios and budget_kb")

    def run(self, finished: Finished) -> dict[str, Any]:
        steps = prune_and_finetune(finished, self)
        finished.run.write_json("compression.json", {"format": "saccade-compression-1", "steps": steps})
        return {"compression": steps}


def prune_and_finetune(finished: Finished, settings: Prune) -> list[dict[str, Any]]:
    """Score, prune, let scales move and re-estimate norms, go on training in ``finetune/``; a record of every step.

    An interrupted fine-tuning goes on where it stopped.
    """
    from saccade.experiment.run import run as run_recipe  # which runs stages itself

    recipe, run, splits, task = finished.recipe, finished.run, finished.splits, finished.task
    tested = f"test_{task.primary.name}"
    model = copy.deepcopy(finished.model).eval()
    records = [step_record("trained", model, splits, task) | {tested: finished.summary[tested]}]
    scores = score_channels(model, splits, settings.criterion, settings.batches, settings.batch_size, recipe.seed)
    run.write_json("scores.json", scores.to_json())
    plan = make_plan(model, scores, ratio=settings.ratio, ratios=settings.ratios, budget_kb=settings.budget_kb)
    apply(model, plan.transform())
    records.append(step_record("pruned", model, splits, task) | {"kept": {k: len(v) for k, v in plan.kept.items()}})
    apply(model, "thaw_scales")
    recalibrate_(model, training_images(splits, CALIBRATION, recipe.seed))
    records.append(step_record("norms re-estimated", model, splits, task))
    target = run.path / "pruned.safetensors"
    save_model(model, target, splits.test.classes, splits.test.shape)
    directory = run.path / "finetune"
    resume = (directory / "checkpoints" / "last").exists()
    tuning = finetune_recipe(recipe, target, settings.finetune)
    summary = run_recipe(tuning, directory, resume=resume, quiet=finished.quiet, report=False)
    tuned = load_model(directory / "model.safetensors")
    pack(tuned, directory / "packed.safetensors", splits)
    scored = {key: summary[key] for key in (tested, "profile") if key in summary}
    records.append(step_record("fine-tuned", tuned, splits, task) | scored)
    return records


def finetune_recipe(recipe: Recipe, start: Path, changes: Mapping[str, Any]) -> Recipe:
    """The recipe that goes on from a model file with another recipe's data and settings. ``changes``: of its train keys."""
    from saccade.experiment.recipe import parse  # which knows stages

    raw = recipe.model_dump(mode="json")
    raw |= {
        "name": f"{recipe.name}-finetune",
        "model": {"start": str(start)},
        "stages": [stage for stage in raw["stages"] if stage["name"] not in ("prune", "natural_pruning")],
    }
    raw["train"] = raw["train"] | dict(changes)
    return parse(raw, "finetune")


STAGES.register("prune", Prune())
