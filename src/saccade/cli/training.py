"""Commands that train, score and show a model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saccade.cli import common

if TYPE_CHECKING:
    from torch import Tensor

    from saccade.experiment import Recipe
    from saccade.models import SpikingModel
    from saccade.train import Task

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
    smoke: Annotated[
        bool,
        typer.Option("--smoke", help="Only try it: an epoch on a few hundred images, into runs/RECIPE-smoke-seedN."),
    ] = False,
    json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Train a model by a recipe into a run directory, score it once on the test set, write its report.

    Ctrl-C saves and stops; --resume goes on to the same weights, also after a kill.
    """
    from saccade.experiment import RunDirectory, load_recipe, run
    from saccade.experiment import smoke as smoke_of
    from saccade.experiment.run import default_directory
    from saccade.train import Interrupted, main_process

    if resume is not None:
        if recipe is not None or settings or out or smoke:
            raise ValueError(
                "--resume goes on with the run's own recipe; give no recipe, --set, --smoke or --out beside it"
            )
        directory, plan = resume, RunDirectory(resume).recipe()
    else:
        if recipe is None:
            raise ValueError("which recipe? (`saccade recipes` lists them)")
        plan = load_recipe(recipe, settings or [])
        if smoke:
            plan = smoke_of(plan, data)
        directory = out or default_directory(plan)
        if smoke and out is None:
            common.remove_run(directory, plan.name)
    try:
        summary = run(plan, directory, resume=resume is not None, data=data, quiet=quiet)
    except Interrupted as stop:
        raise Interrupted(f"{stop}; go on with: saccade train --resume {directory}") from None
    if main_process():
        print_summary(summary, directory, json)


def print_summary(summary: dict[str, Any], directory: Path, json: bool) -> None:
    """What training ends with."""
    from saccade.train import Score

    if json:
        common.print_json(summary)
        return
    scores = [Score(**score) for score in summary["scores"]]
    words = ", ".join(f"{score.name} {score.text(summary[f'test_{score.name}'])}" for score in scores)
    if "test_correct" in summary:
        words += f" ({summary['test_correct']} of {summary['test_total']})"
    print(f"test {words}")
    print(f"chosen epoch {summary['chosen_epoch']} of {summary['epochs']}, by {summary['chosen_by']}")
    page = directory / "report.html"
    if page.exists():
        print(f"report {page}")


def report(
    directory: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
) -> None:
    """Write a run's report.html again: one page, no network needed to read it."""
    from saccade.report import write_report

    print(write_report(directory))


def evaluate(
    model: ModelPath,
    data: DataRoot = None,
    set_name: SetName = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    json: AsJson = False,
) -> None:
    """Score a model by its task: of a classifier accuracy, loss and confusion matrix."""
    from rich.table import Table

    from saccade.train import evaluate as score

    if split not in ("train", "validation", "test"):
        raise ValueError(f"--split {split!r}: choose train, validation or test")
    opened, recipe = common.trained(model)
    splits, task = common.data_for(opened, recipe, set_name, data)
    images = getattr(splits, split)
    with common.passes(json) as tell:
        scored = score(common.ours(opened), images, task, batch_size=100, progress=lambda n: tell("scored", n))
    if json:
        head = {"model": str(model), "split": split}
        common.print_json({**head, **scored.metrics, "loss": scored.loss, "classes": list(images.classes)})
        return
    print(f"{split}: {task.describe(scored.metrics)}, loss {scored.loss:.4f}")
    if "confusion" in scored.metrics:
        table = Table(title="confusion (rows: truth)")
        for name in ("", *images.classes):
            table.add_column(name, justify="right")
        for name, row in zip(images.classes, scored.metrics["confusion"], strict=True):
            table.add_row(name, *map(str, row))
        common.print_table(table)


def predict(
    model: ModelPath,
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Picture files; for a network of events recordings, or - for lines t x y p on standard input."
        ),
    ],
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 3,
    stream: Annotated[
        bool, typer.Option("--stream", help="Watch a recording window by window: a line each, as soon as it is known.")
    ] = False,
    window_us: Annotated[
        int | None, typer.Option(min=1, metavar="US", help="Duration of a window in a stream (default: as trained).")
    ] = None,
    window_events: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Number of events of a window in a stream.")
    ] = None,
    over: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Windows that an answer is read over (default: as trained)."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Name what pictures or event recordings show. Pictures are resized and centre-cropped to what the model was trained on.

    One that cannot be read is said, the others are still looked at; the exit code is 2 then. With --stream: for each window its
    end, what is seen, how sure the network is, and the time from the last event of the window to the answer.
    """
    import torch

    from saccade.train import Classification

    opened, recipe = common.trained(model)
    network = common.ours(opened)
    if not opened.input_said or opened.input_shape is None:
        raise ValueError(f"{model}: does not say what input it was trained on")
    try:
        task = (recipe.task if recipe else Classification()).build(network, opened.classes)
    except ValueError as error:
        raise ValueError(f"{model}: {error}") from None
    if stream:
        _watch(str(model), network, task, images, (window_us, window_events, over), json)
        return
    if (window_us, window_events, over) != (None, None, None):
        raise ValueError("--window-us, --window-events and --over belong to --stream")
    read = _recordings(network, str(model)) if network.frames else _pictures(opened.input_shape, recipe)
    results: list[dict[str, Any]] = []
    for path in images:
        try:
            x = read(path)
        except (ValueError, OSError) as error:
            results.append({"image": str(path), "error": str(error)})
            common.complain(str(error))
            continue
        with torch.inference_mode():
            prediction = task.predictions(network(x, steps=True), top)[0]
        results.append({"image": str(path), **prediction})
        if not json:
            print(f"{path}: {task.describe_prediction(prediction)}")
    if json:
        common.print_json(results)
    if any("error" in result for result in results):
        raise typer.Exit(2)


def _pictures(shape: tuple[int, ...], recipe: Recipe | None) -> Callable[[Path], Tensor]:
    """Reads a picture as ``[1, C, H, W]``."""
    from saccade.data import read_image
    from saccade.experiment import pixel_maps

    channels, size, _ = shape
    maps = pixel_maps(recipe.data) if recipe else []

    def read(path: Path) -> Tensor:
        x = read_image(path, size, channels).unsqueeze(0)
        for function in maps:
            x = function(x)
        return x.float() / 255

    return read


def _recordings(network: SpikingModel, source: str) -> Callable[[Path], Tensor]:
    """Reads a recording as ``[T, 1, C, H, W]``."""
    from saccade.events import open_events
    from saccade.experiment.streaming import framing_of

    framing = framing_of(network, source)
    height, width = framing.recorded

    def read(path: Path) -> Tensor:
        try:
            return framing.frames(open_events(path, height=height, width=width)).unsqueeze(1)
        except ValueError as error:
            words = str(error)
            raise ValueError(words if words.startswith(str(path)) else f"{path}: {words}") from None

    return read


def _watch(
    source: str,
    network: SpikingModel,
    task: Task,
    paths: list[Path],
    options: tuple[int | None, int | None, int | None],
    json: bool,
) -> None:
    """A line a window, as soon as it is known."""
    import json as json_module

    from saccade.events import read_chunks
    from saccade.events.pipes import read_lines
    from saccade.experiment.streaming import answers, framing_of, steps_of, streamed

    if len(paths) != 1:
        raise ValueError("--stream watches one recording, or - for standard input")
    window_us, window_events, over = options
    trained = framing_of(network, source)
    try:
        framing = streamed(trained, window_us, window_events)
    except ValueError as error:
        raise ValueError(f"{source}: {error} (--window-us or --window-events)") from None
    height, width = framing.recorded
    if str(paths[0]) == "-":
        pieces = read_lines(sys.stdin.buffer, height, width)
    else:
        pieces = read_chunks(paths[0], height=height, width=width)
    for answer in answers(network, task, framing, pieces, over or steps_of(trained, network)):
        if json:
            print(json_module.dumps(answer._asdict()), flush=True)
            continue
        words = task.describe_prediction(answer.prediction)
        print(f"{answer.time_us:>10} us  {words}  {answer.latency_ms:.2f} ms", flush=True)
