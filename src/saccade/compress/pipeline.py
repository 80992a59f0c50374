"""The steps of compression as one path: score, prune, estimate norms again, train on, with a record of what each cost."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saccade.compress.criteria import Scores, score
from saccade.compress.export import save_packed
from saccade.compress.prune import (
    ChannelPlan,
    check_scores,
    plan_by_budget,
    plan_by_ratio,
    prune_,
    recalibrate_,
    thaw_,
)
from saccade.data import ImageSet, Splits, image_batches
from saccade.measure import exact_size, model_size
from saccade.models import SpikingModel, load_model, save_model
from saccade.train import Recipe, loss_function, train
from saccade.train import evaluate as evaluate_on
from saccade.train.engine import Finished, Pixels, Stage, Teaching
from saccade.train.recipe import PruneSettings, parse

CALIBRATION = 1280  # training images on which norms are estimated again


def training_images(splits: Splits, count: int, seed: int, batch_size: int = 128) -> Iterable[Tensor]:
    """``count`` training images drawn by ``seed``, in batches."""
    order = torch.randperm(len(splits.train), generator=torch.Generator().manual_seed(seed))[:count]
    return image_batches(splits.train.subset(order.tolist()), batch_size)


def accuracy(model: SpikingModel, images: ImageSet) -> float:
    loss = loss_function("ce", model.num_classes, readout=model.readout)
    return evaluate_on(model, images, loss=loss).accuracy


def pack(model: SpikingModel, path: Path, splits: Splits) -> int:
    """Write the packed file of a model of these images; returns its size in bytes."""
    sample = next(iter(image_batches(splits.validation, 4, limit=4))).to(next(model.parameters()).device)
    save_packed(model, path, sample, splits.test.classes, splits.test.shape)
    return exact_size(path).total


def step_record(step: str, model: SpikingModel, splits: Splits) -> dict[str, Any]:
    """What a step left: parameters, bytes as QP-SNN counts and as a packed file, accuracy on the validation images."""
    model.eval()
    with tempfile.TemporaryDirectory() as folder:
        size = pack(model, Path(folder) / "packed.safetensors", splits)
    return {
        "step": step,
        "parameters": sum(p.numel() for p in model.parameters()),
        "bytes_qp": model_size(model).bits / 8,
        "bytes_file": size,
        "validation_accuracy": accuracy(model, splits.validation),
    }


def make_plan(model: SpikingModel, scores: Scores, settings: PruneSettings) -> ChannelPlan:
    """The channels that a recipe's or command's settings keep. Raises ValueError for the scores of another network."""
    if settings.budget_kb is not None:
        return plan_by_budget(model, scores, settings.budget_kb)
    check_scores(model, scores)
    return plan_by_ratio(scores, settings.ratio if settings.ratios is None else settings.ratios)  # type: ignore[arg-type]


def score_channels(
    model: SpikingModel, splits: Splits, criterion: str, batches: int, batch_size: int, seed: int
) -> Scores:
    """Scores on training images drawn by ``seed``."""
    return score(model, training_images(splits, batches * batch_size, seed, batch_size), criterion, seed)


def prune_and_finetune(
    finished: Finished, stages: Mapping[str, Stage], teach: Teaching, pixels: Pixels | None = None, quiet: bool = False
) -> list[dict[str, Any]]:
    """Score, prune, let scales move and re-estimate norms, go on training in ``finetune/``; a record of every step.

    An interrupted fine-tuning goes on where it stopped.
    """
    recipe, run, splits = finished.recipe, finished.run, finished.splits
    settings = recipe.prune
    assert settings is not None  # the recipe has been checked
    model = copy.deepcopy(finished.model).eval()
    records = [step_record("trained", model, splits) | {"test_accuracy": finished.summary["test_accuracy"]}]
    scores = score_channels(model, splits, settings.criterion, settings.batches, settings.batch_size, recipe.seed)
    run.write_json("scores.json", scores.to_json())
    plan = make_plan(model, scores, settings)
    prune_(model, plan)
    records.append(step_record("pruned", model, splits) | {"kept": {k: len(v) for k, v in plan.kept.items()}})
    thaw_(model)
    recalibrate_(model, training_images(splits, CALIBRATION, recipe.seed))
    records.append(step_record("norms re-estimated", model, splits))
    target = run.path / "pruned.safetensors"
    save_model(model, target, splits.test.classes, splits.test.shape)
    plan_on = finetune_recipe(recipe, target, settings.finetune)
    directory = run.path / "finetune"
    resume = (directory / "checkpoints" / "last").exists()
    summary = train(plan_on, directory, resume=resume, stages=stages, teach=teach, pixels=pixels, quiet=quiet)
    tuned = load_model(directory / "model.safetensors")
    pack(tuned, directory / "packed.safetensors", splits)
    scored = {key: summary[key] for key in ("test_accuracy", "profile") if key in summary}
    records.append(step_record("fine-tuned", tuned, splits) | scored)
    return records


def finetune_recipe(recipe: Recipe, start: Path, changes: Mapping[str, Any]) -> Recipe:
    """The recipe that goes on from a model file with another recipe's data and settings. ``changes``: of its train keys."""
    raw = recipe.model_dump(mode="json")
    raw |= {
        "name": f"{recipe.name}-finetune",
        "model": {"start": str(start)},
        "prune": None,
        "stages": [stage for stage in recipe.stages if stage not in ("prune", "natural_pruning")],
    }
    raw["train"] = raw["train"] | dict(changes)
    return parse(raw, "prune.finetune")
