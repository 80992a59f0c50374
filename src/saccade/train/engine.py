"""From a recipe to a run: set-up, training, the stages after it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from saccade.data import MappedSet, PixelMap, Splits, load
from saccade.kernels import keep_memory
from saccade.layers import set_recompute, set_spike_packing, weight_forms
from saccade.files import load_model
from saccade.models import SpikingModel, create_model
from saccade.transforms import apply, channel_groups
from saccade.train import checkpoint
from saccade.train.checkpoint import Progress
from saccade.train.loop import Job
from saccade.train.losses import ExtraLoss
from saccade.train.recipe import DataSettings, ModelSettings, Recipe, TeacherSettings, TrainSettings
from saccade.train.rundir import RunDirectory


@dataclass(frozen=True)
class Finished:
    """What a stage after training gets: the chosen model in eval mode, the data, the run, the summary so far."""

    model: SpikingModel
    splits: Splits
    recipe: Recipe
    run: RunDirectory
    summary: dict[str, Any]


Stage = Callable[[Finished], dict[str, Any]]
Teaching = Callable[[TeacherSettings, SpikingModel], ExtraLoss]
Pixels = Mapping[str, Callable[..., PixelMap]]


def train(
    recipe: Recipe,
    directory: str | Path,
    *,
    resume: bool = False,
    stages: Mapping[str, Stage] | None = None,
    teach: Teaching | None = None,
    pixels: Pixels | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Run a recipe in a run directory and return its summary (also written there as summary.json).

    The weights after a kill and ``resume=True`` equal those of an undisturbed run bit for bit on the same machine:
    randomness derives from (seed, epoch, step). The epoch is chosen on the validation split; the test set is scored
    once, at the end. ``stages`` maps the names in ``recipe.stages`` to functions that run afterwards, in order;
    ``teach`` makes the loss of a recipe's teacher; ``pixels`` maps the names in ``recipe.data.transforms`` to makers of
    functions of images.

    Raises ValueError for a directory in use or of another recipe, TrainingError if the loss stops being finite (the
    last good checkpoint stays), Interrupted after Ctrl-C, OSError if the disk is full.
    """
    from lightning_fabric import Fabric

    known = stages or {}
    for name in recipe.stages:
        if name not in known:
            raise ValueError(f"unknown stage {name!r}; known: {', '.join(sorted(known)) or 'none'}")
    if recipe.teacher is not None and teach is None:
        raise ValueError("the recipe has a teacher, but nothing was given that makes its loss (teach=)")
    settings = recipe.train
    strategy = "ddp" if settings.strategy == "auto" and settings.devices > 1 else settings.strategy
    fabric = Fabric(
        accelerator=settings.accelerator,
        devices=settings.devices,
        strategy=strategy,
        precision=settings.precision,
    )
    chosen = [known[name] for name in recipe.stages]
    function: Any = _train
    result: dict[str, Any] = fabric.launch(
        function, recipe, Path(directory), resume, chosen, teach, pixels or {}, quiet
    )
    return result


def _train(
    fabric: Any,
    recipe: Recipe,
    directory: Path,
    resume: bool,
    stages: list[Stage],
    teach: Teaching | None,
    pixels: Pixels,
    quiet: bool,
) -> dict[str, Any]:
    settings = recipe.train
    keep_memory()
    splits = load_splits(recipe.data, pixels=pixels)
    torch.manual_seed(recipe.seed)
    model = build_model(recipe.model)
    check_fits(model, splits, "model.start" if recipe.model.start else "model.kwargs")
    if recipe.prune is not None:
        check_groups(model, recipe.prune.ratios or {})
    if settings.devices > 1 and any(form.single_process for form in weight_forms(model)):
        raise ValueError("train.devices: codebooks learn and are redrawn in one process only; set it to 1")
    extra = teach(recipe.teacher, model) if recipe.teacher is not None and teach is not None else None
    set_spike_packing(model, settings.pack_spikes)
    if settings.recompute:
        set_recompute(model, True)
    if settings.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(model, settings)
    wrapped, optimizer = fabric.setup(torch.compile(model, dynamic=False) if settings.compile else model, optimizer)
    run = RunDirectory.open(directory, recipe, resume, write=fabric.is_global_zero)
    fabric.barrier()
    ema = {key: value.detach().clone() for key, value in model.state_dict().items()} if settings.ema else None
    progress = Progress()

    with run.reporter(recipe, quiet or fabric.global_rank != 0) as report:
        job = Job(fabric, recipe, run, splits, model, wrapped, optimizer, ema, progress, report, extra)
        if resume and run.has_checkpoint():
            job.restore()
        elif fabric.is_global_zero:
            run.rewrite_metrics([])
            checkpoint.save(run.checkpoint("initial"), model.state_dict(), None, None, progress)
        job.fit()
        summary = job.finish()
    finished = Finished(model.eval(), splits, recipe, run, summary)
    if fabric.is_global_zero:
        for stage in stages:
            summary |= stage(finished)
        run.write_json("summary.json", summary)
    return summary


def build_model(settings: ModelSettings) -> SpikingModel:
    """The model that a recipe starts from, transforms applied. Raises ValueError for unknown names, files and settings."""
    model = load_model(settings.start) if settings.start else create_model(settings.name, **settings.kwargs)
    for transform in settings.transforms:
        apply(model, transform.model_dump())
    return model


def load_splits(data: DataSettings, root: str | Path | None = None, pixels: Pixels | None = None) -> Splits:
    """The images a recipe names, from ``root`` or the recipe's own; ``pixels`` makes its ``data.transforms`` by name.

    Raises ValueError for an unknown transform or settings it does not take.
    """
    splits = load(
        data.name,
        root or data.root,
        validation=data.validation,
        seed=data.split_seed,
        train_size=data.train_size,
        test_size=data.test_size,
        size=data.size,
    )
    for function in pixel_maps(data, pixels):
        splits = Splits(*(MappedSet(part, function) for part in splits))
    return splits


def pixel_maps(data: DataSettings, pixels: Pixels | None) -> list[PixelMap]:
    """The functions of ``data.transforms``, in order. Raises ValueError for an unknown one or settings it does not take."""
    known, maps = pixels or {}, []
    for name, config in ((transform.name, transform.config) for transform in data.transforms):
        if name not in known:
            words = ", ".join(sorted(known)) or "none"
            raise ValueError(f"data.transforms: unknown transform {name!r}; known: {words}")
        try:
            maps.append(known[name](**config))
        except (TypeError, ValueError) as error:
            raise ValueError(f"data.transforms: {name}: {error}") from None
    return maps


def check_fits(model: SpikingModel, splits: Splits, source: str) -> None:
    """Raises ValueError naming ``source`` if the images have another channel or class count than the model."""
    channels, classes = splits.test.shape[0], len(splits.test.classes)
    if model.in_channels != channels:
        raise ValueError(f"{source}: the model takes {model.in_channels} channels, the images have {channels}")
    if model.num_classes != classes:
        raise ValueError(f"{source}: the model has {model.num_classes} classes, the images have {classes}")


def check_groups(model: SpikingModel, names: Iterable[str]) -> None:
    """Raises ValueError, before anything is trained, for a model that cannot be pruned or groups that it does not have."""
    groups = channel_groups(model)
    for name in names:
        if name not in groups:
            raise ValueError(f"prune.ratios: no group {name!r}; the model has {', '.join(groups)}")


def build_optimizer(model: torch.nn.Module, settings: TrainSettings) -> Optimizer:
    """Adam, AdamW or SGD; weight decay acts on weights of two or more axes only, not on norms, biases, taus and codebooks."""
    named = list(model.named_parameters())
    decayed = [p for name, p in named if p.dim() > 1 and ".form." not in name]
    plain = [p for name, p in named if p.dim() <= 1 or ".form." in name]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, settings.lr, momentum=settings.momentum)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer](groups, settings.lr)
