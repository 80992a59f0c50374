"""What a recipe names, made: its images, its model, its teacher."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from saccade.compress.distill import teacher_loss
from saccade.data import MappedSet, PixelMap, Splits, batches, load
from saccade.files import load_model
from saccade.files.tensors import BROKEN, in_one_line
from saccade.models import SpikingModel, create_bounded
from saccade.train.losses import ExtraLoss
from saccade.train.tasks import Task, TaskConfig
from saccade.transforms import apply

if TYPE_CHECKING:
    from saccade.experiment.recipe import DataSettings, ModelSettings, Recipe, TeacherSettings


def build_model(settings: ModelSettings) -> SpikingModel:
    """The model that a recipe starts from, transforms applied. Raises ValueError for unknown names, files and settings."""
    if settings.start:
        model = load_model(settings.start)
    else:
        try:
            model = create_bounded(settings.name, settings.config)
        except BROKEN as error:
            raise ValueError(f"model: {in_one_line(error, 400)}") from None
    for transform in settings.transforms:
        apply(model, transform)
    return model


def load_splits(data: DataSettings, root: str | Path | None = None) -> Splits:
    """The images a recipe names, from ``root`` or the recipe's own, ``data.transforms`` applied.

    Raises ValueError for impossible settings and damaged files, FileNotFoundError for missing ones.
    """
    maps = pixel_maps(data)
    splits = load(
        data.source(),
        root or data.root,
        validation=data.validation,
        seed=data.split_seed,
        train_size=data.train_size,
        test_size=data.test_size,
    )
    for function in maps:
        splits = Splits(*(MappedSet(part, function) for part in splits))
    return splits


def pixel_maps(data: DataSettings) -> list[PixelMap]:
    """The functions of ``data.transforms``, in order. Raises ValueError for settings that do not go together."""
    maps = []
    for config in data.transforms:
        try:
            maps.append(config.build())
        except ValueError as error:
            raise ValueError(f"data.transforms: {config.kind()}: {error}") from None
    return maps


def build_teacher(settings: TeacherSettings, student: SpikingModel) -> ExtraLoss:
    """The loss of a recipe's teacher. Raises ValueError for a missing file, or a pair that does not go together."""
    return teacher_loss(student, settings.model, **settings.model_dump(exclude={"model"}))


def splits_for(recipe: Recipe | None, name: str | None = None, root: str | Path | None = None) -> Splits:
    """The images to look at a model with: those of its recipe, or the data set of that name.

    Raises ValueError if neither is known.
    """
    if recipe is not None and name in (None, recipe.data.name):
        return load_splits(recipe.data, root)
    if name is None:
        raise ValueError(
            "which images? name a set with --set-name (the model lies in no run directory, nor beside a NAME.recipe.yaml)"
        )
    return load(name, root, validation=100)


def fit_task(config: TaskConfig, model: SpikingModel, splits: Splits, source: str) -> Task:
    """A task for a model and its images. Raises ValueError, naming ``source``, for what does not fit."""
    try:
        config.check(model, splits)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    return config.build(model, splits.test.classes)


def check_forward(model: SpikingModel, task: Task, splits: Splits, source: str) -> None:
    """Raises ValueError, naming ``source``, for a model that cannot run on the images, or whose output the task cannot read.

    Two validation images, in eval mode; leaves the random state as it is.
    """
    part = splits.validation.subset(range(min(2, len(splits.validation))))
    was_training = model.training
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            for x, y in batches(part, max(len(part), 1), seed=None):
                task.plain_loss(model.eval()(x, steps=True), y)
    except (ValueError, TypeError, RuntimeError, IndexError, AttributeError) as error:
        words = " ".join(str(error).split())
        raise ValueError(f"{source}: the model fails on the images: {words}") from error
    finally:
        model.train(was_training)
