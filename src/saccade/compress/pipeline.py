"""What the steps of compression share: images to look at, scores, plans, and a record of what each step cost."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saccade.compress.criteria import Scores, score
from saccade.compress.prune import ChannelPlan, check_scores, plan_by_budget, plan_by_ratio
from saccade.data import ImageSet, Splits, image_batches
from saccade.files import save_packed
from saccade.measure import exact_size, model_size
from saccade.models import SpikingModel
from saccade.train import Task, evaluate


def training_images(splits: Splits, count: int, seed: int, batch_size: int = 128) -> Iterable[Tensor]:
    """``count`` training images drawn by ``seed``, in batches."""
    order = torch.randperm(len(splits.train), generator=torch.Generator().manual_seed(seed))[:count]
    return image_batches(splits.train.subset(order.tolist()), batch_size)


def score_on(model: SpikingModel, images: ImageSet, task: Task) -> float:
    """The task's primary score."""
    score: float = evaluate(model, images, task).metrics[task.primary.name]
    return score


def pack(model: SpikingModel, path: Path, splits: Splits) -> int:
    """Write the packed file of a model of these images; returns its size in bytes."""
    sample = next(iter(image_batches(splits.validation, 4, limit=4))).to(next(model.parameters()).device)
    save_packed(model, path, sample, splits.test.classes, splits.test.shape)
    return exact_size(path).total


def step_record(step: str, model: SpikingModel, splits: Splits, task: Task) -> dict[str, Any]:
    """What a step left: parameters, bytes as QP-SNN counts and as a packed file, primary score on the validation images."""
    model.eval()
    with tempfile.TemporaryDirectory() as folder:
        size = pack(model, Path(folder) / "packed.safetensors", splits)
    return {
        "step": step,
        "parameters": sum(p.numel() for p in model.parameters()),
        "bytes_qp": model_size(model).bits / 8,
        "bytes_file": size,
        f"validation_{task.primary.name}": score_on(model, splits.validation, task),
    }


def make_plan(
    model: SpikingModel,
    scores: Scores,
    *,
    ratio: float | None = None,
    ratios: Mapping[str, float] | None = None,
    budget_kb: float | None = None,
) -> ChannelPlan:
    """The channels that stay, by exactly one of: the share to remove of every group, the shares by group, what the whole model
    may take in 10^3 bytes. Raises ValueError for the scores of another network, or none or two of these.
    """
    if sum(value is not None for value in (ratio, ratios, budget_kb)) != 1:
        raise ValueError("give exactly one of ratio, ratios and budget_kb")
    if budget_kb is not None:
        return plan_by_budget(model, scores, budget_kb)
    check_scores(model, scores)
    return plan_by_ratio(scores, ratio if ratio is not None else dict(ratios or {}))


def score_channels(
    model: SpikingModel, splits: Splits, criterion: str, batches: int, batch_size: int, seed: int
) -> Scores:
    """Scores on training images drawn by ``seed``."""
    return score(model, training_images(splits, batches * batch_size, seed, batch_size), criterion, seed)
