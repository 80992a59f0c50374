"""Running a recipe: what the command line and a Python script both call."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from saccade.data import Splits
from saccade.experiment.building import build_model, build_teacher, check_forward, fit_task, load_splits
from saccade.experiment.recipe import Recipe, load_recipe, parse, with_root
from saccade.experiment.run_directory import RunDirectory
from saccade.experiment.stages import Finished
from saccade.files import load_model
from saccade.models import SpikingModel
from saccade.train import launch, main_process, train
from saccade.train.engine import arranged, precision_for


def run(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    directory: str | Path | None = None,
    *,
    resume: bool = False,
    data: str | Path | None = None,
    quiet: bool = False,
    report: bool = True,
) -> dict[str, Any]:
    """Run a recipe in a run directory and return its summary (also written there as summary.json).

    ``recipe``: one that was read, a mapping, a YAML file, or the name of one of the package's. ``directory``: default
    runs/NAME-seedN. ``data``: the data folder, in the place of the recipe's. ``report``: write report.html too (without
    matplotlib there is a warning and no page).

    Data, model, task, teacher and every stage are checked before anything is written. Then the model is trained, the epoch
    chosen on the validation split, the test set scored once, and the stages run in order. ``resume`` goes on with an
    interrupted run, to weights that equal an undisturbed one's bit for bit on the same machine, or with the stages that are
    not done yet.

    Raises ValueError for what does not fit, for a directory in use or of another recipe, and for a stage that fails (the
    summary of what was done is on disk then); TrainingError if the loss stops being finite (the last good checkpoint stays),
    Interrupted after Ctrl-C, OSError if the disk is full.
    """
    recipe = with_root(as_recipe(recipe), data)
    _check_processes(recipe)
    place = RunDirectory(Path(directory) if directory is not None else default_directory(recipe))
    with place.in_use() if _first_process() else contextlib.nullcontext():
        summary: dict[str, Any] = launch(recipe.train, _run, recipe, place.path, resume, quiet)
        if report and main_process():
            write_page(place.path)
    return summary


def as_recipe(recipe: Recipe | Mapping[str, Any] | str | Path) -> Recipe:
    """A recipe from itself, a mapping, a YAML file or the name of one of the package's. Raises ValueError in one line."""
    if isinstance(recipe, Recipe):
        return recipe
    return parse(recipe) if isinstance(recipe, Mapping) else load_recipe(recipe)


def default_directory(recipe: Recipe) -> Path:
    """runs/NAME-seedN."""
    return Path("runs") / f"{recipe.name.replace('/', '-')}-seed{recipe.seed}"


def write_page(directory: Path) -> Path | None:
    """The run's report.html; None, with a warning, where matplotlib is not installed."""
    from saccade.report import write_report

    try:
        return write_report(directory)
    except ModuleNotFoundError as error:
        warnings.warn(f"{directory}: no report.html was written: {error}", stacklevel=2)
        return None


def _check_processes(recipe: Recipe) -> None:
    """Raises ValueError for a card that is not there, and for more processes than there are cores."""
    if recipe.train.accelerator == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "train.accelerator: there is no CUDA device here (or this torch cannot use it); set auto or cpu"
        )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = int(os.environ.get("SACCADE_MAX_PROCESSES") or max(cores, 2))
    on_cpu = recipe.train.accelerator == "cpu" or not torch.cuda.is_available()
    for key, wanted, allowed in (
        ("train.devices", recipe.train.devices if on_cpu else 1, most),
        ("data.workers", recipe.data.workers, 4 * most),
    ):
        if wanted > allowed:
            raise ValueError(
                f"{key}: {wanted:,} processes for {cores} cores; at most {allowed}, or set SACCADE_MAX_PROCESSES"
            )


def _first_process() -> bool:
    """Whether no launcher started this process as rank 1 or more."""
    return all(os.environ.get(key, "0") in ("", "0") for key in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def _run(fabric: Any, recipe: Recipe, directory: Path, resume: bool, quiet: bool) -> dict[str, Any]:
    """One process of a run."""
    splits = load_splits(recipe.data)
    torch.manual_seed(recipe.seed)
    model = build_model(recipe.model)
    source = "model.start" if recipe.model.start else "model.config"
    task = fit_task(recipe.task, model, splits, source)
    check_forward(model, task, splits, source)
    for stage in recipe.stages:
        try:
            stage.check(recipe, model, splits)
        except ValueError as error:
            raise ValueError(f"stages.{stage.kind()}: {error}") from None
    for ingredient in recipe.ingredients:
        try:
            ingredient.check(model, task)
        except ValueError as error:
            raise ValueError(f"ingredients.{ingredient.kind()}: {error}") from None
    trained = resume and (directory / "summary.json").exists()
    extra = build_teacher(recipe.teacher, model) if recipe.teacher is not None and not trained else None
    augment = task.augmentation(recipe.data.augmentation(), splits.train)
    run = RunDirectory.open(directory, recipe, resume, write=fabric.is_global_zero)
    fabric.barrier()
    if trained:
        summary = run.read_json("summary.json")
        model = arranged(load_model(run.path / "model.safetensors").to(fabric.device), recipe.train)
    else:
        parameters = sum(p.numel() for p in model.parameters())
        sizes = f"{parameters:,} parameters, {' + '.join(f'{len(part):,}' for part in splits)} images"
        with run.reporter(recipe, task, sizes, quiet or not fabric.is_global_zero) as reporter:
            training = train(
                fabric,
                model,
                task,
                splits,
                recipe.train,
                run.path,
                seed=recipe.seed,
                augment=augment,
                workers=recipe.data.workers,
                extra=extra,
                ingredients=recipe.ingredients,
                resume=resume,
                reporter=reporter,
            )
        summary = _head(recipe, model, splits, run) | training | {"stages_done": []}
        if fabric.is_global_zero:
            run.write_json("summary.json", summary)
    if fabric.is_global_zero:
        _run_stages(Finished(model.eval(), task, splits, recipe, run, summary, quiet))
    return summary


def _run_stages(finished: Finished) -> None:
    """The stages that are not done yet, each noted in summary.json when it is."""
    summary, run = finished.summary, finished.run
    for stage in finished.recipe.stages[len(summary["stages_done"]) :]:
        name = stage.kind()
        try:
            added = stage.run(finished)
        except ValueError as error:
            raise ValueError(
                f"the stage {name} fails: {error}; all before it is done and kept, resume {run.path} to go on from here"
            ) from error
        summary |= added
        summary["stages_done"] = [*summary["stages_done"], name]
        run.write_json("summary.json", summary)


def _head(recipe: Recipe, model: SpikingModel, splits: Splits, run: RunDirectory) -> dict[str, Any]:
    return {
        "format": "saccade-summary-1",
        "recipe": recipe.name,
        "seed": recipe.seed,
        "task": recipe.task.kind(),
        "model": model.name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "T": getattr(model, "T", None),
        "precision": precision_for(recipe.train),
        "classes": list(splits.test.classes),
        "images": {key: len(part) for key, part in zip(("train", "validation", "test"), splits, strict=True)},
    }
