"""Commands that train, score and show a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saccade.cli import common

ModelPath = Annotated[Path, typer.Argument(metavar="MODEL", help="A model file, or the run directory it lies in.")]
DataRoot = Annotated[
    Path | None, typer.Option("--data", help="Folder of the image sets (default: $SACCADE_DATA, ./data).")
]
SetName = Annotated[str | None, typer.Option("--set-name", help="Image set, if not the one it was trained on.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def train(
    recipe: Annotated[str | None, typer.Argument(help="A recipe's name or YAML file.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory (default: runs/RECIPE-seedN).")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key: train.lr=1e-3. Repeatable.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with an interrupted run in this directory.")] = None,
    data: DataRoot = None,
    json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Train a model by a recipe into a run directory, score it once on the test set, write its report.

    Ctrl-C saves and stops; --resume goes on to the same weights, also after a kill.
    """
    from saccade.cli.pixels import PIXELS
    from saccade.cli.stages import STAGES, teach
    from saccade.train import Interrupted, load_recipe
    from saccade.train import train as run_training
    from saccade.train.rundir import RunDirectory

    if resume is not None:
        if recipe is not None or settings or out:
            raise ValueError("--resume goes on with the run's own recipe; give no recipe, --set or --out beside it")
        directory, plan = resume, RunDirectory(resume).recipe()
    else:
        if recipe is None:
            raise ValueError("which recipe? (`saccade recipes` lists them)")
        changes = list(settings or [])
        if data is not None:
            changes.append(f"data.root={data}")
        plan = load_recipe(common.recipe_path(recipe), changes)
        directory = out or Path("runs") / f"{plan.name.replace('/', '-')}-seed{plan.seed}"
    try:
        summary = run_training(
            plan, directory, resume=resume is not None, stages=STAGES, teach=teach, pixels=PIXELS, quiet=quiet
        )
    except Interrupted as stop:
        raise Interrupted(f"{stop}; go on with: saccade train --resume {directory}") from None
    page = _write_report(directory)
    if json:
        common.print_json(summary)
        return
    print(f"test accuracy {summary['test_accuracy']:.2%} ({summary['test_correct']} of {summary['test_total']})")
    print(f"chosen epoch {summary['chosen_epoch']} of {summary['epochs']}, by {summary['chosen_by']}")
    print(f"report {page}")


def _write_report(directory: Path) -> Path:
    from saccade.report import write_report

    return write_report(directory)


def report(
    directory: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
) -> None:
    """Write a run's report.html again: one page, no network needed to read it."""
    print(_write_report(directory))


def evaluate(
    model: ModelPath,
    data: DataRoot = None,
    set_name: SetName = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    json: AsJson = False,
) -> None:
    """Score a model: accuracy, loss and confusion matrix."""
    from rich.table import Table

    from saccade.train import check_fits, loss_function
    from saccade.train import evaluate as score

    if split not in ("train", "validation", "test"):
        raise ValueError(f"--split {split!r}: choose train, validation or test")
    file, recipe = common.open_run(model)
    network = common.load_network(file)
    splits = common.splits_for(recipe, set_name, data)
    check_fits(network, splits, str(file))
    images = getattr(splits, split)
    loss = loss_function("ce", network.num_classes, readout=network.readout)
    with common.passes(json) as tell:
        found = score(network, images, loss=loss, batch_size=100, progress=lambda n: tell("scored", n))
    if json:
        record = {
            "model": str(model),
            "split": split,
            "accuracy": found.accuracy,
            "correct": found.correct,
            "total": found.total,
            "cross_entropy": found.loss,
            "confusion": found.confusion.tolist(),
            "classes": list(images.classes),
        }
        common.print_json(record)
        return
    print(f"{split}: accuracy {found.accuracy:.2%} ({found.correct} of {found.total}), cross-entropy {found.loss:.4f}")
    table = Table(title="confusion (rows: truth)")
    for name in ("", *images.classes):
        table.add_column(name, justify="right")
    for name, row in zip(images.classes, found.confusion.tolist(), strict=True):
        table.add_row(name, *map(str, row))
    common.print_table(table)


def predict(
    model: ModelPath,
    images: Annotated[list[Path], typer.Argument(help="Picture files.")],
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 3,
    json: AsJson = False,
) -> None:
    """Name what pictures show. They are resized and centre-cropped to what the model was trained on."""
    import torch

    from saccade.cli.pixels import PIXELS
    from saccade.data import read_image
    from saccade.train import pixel_maps

    file, recipe = common.open_run(model)
    maps = pixel_maps(recipe.data, PIXELS) if recipe else []
    network = common.load_network(file)
    info = common.file_info(file)
    if info.get("input") is None:
        raise ValueError(f"{file}: does not say what input it was trained on")
    channels, size, _ = info["input"]
    classes = info["classes"] or [str(k) for k in range(network.num_classes)]
    results = []
    for path in images:
        x = read_image(path, size, channels).unsqueeze(0)
        for function in maps:
            x = function(x)
        x = x.float() / 255
        with torch.inference_mode():
            chances = network(x).softmax(-1)[0]
        best = chances.topk(min(top, len(classes)))
        ranking = [(classes[int(k)], float(p)) for p, k in zip(best.values, best.indices, strict=True)]
        results.append({"image": str(path), "classes": [{"class": name, "probability": p} for name, p in ranking]})
        if not json:
            print(f"{path}: " + ", ".join(f"{name} {p:.1%}" for name, p in ranking))
    if json:
        common.print_json(results)
