"""Commands that look into a model: what it costs, what can go, whether it keeps its promises."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saccade.cli import common
from saccade.cli.training import AsJson, DataRoot, SetName

if TYPE_CHECKING:
    from torch import Tensor


Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A model file, run directory, registered name, or package.module:factory."),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option("--shape", help="Input of one sample, without time, e.g. 3,32,32. Once for each input of the model."),
]
InputFiles = Annotated[
    list[Path] | None, typer.Option("--input", help="A .npy file with a batch of inputs. Once for each input.")
]
Steps = Annotated[int | None, typer.Option("--T", min=1, help="Steps of the sequences to run.")]
TimeAxes = Annotated[
    list[str] | None,
    typer.Option(
        help="Of a foreign model's input: first ([T, N, ...]), second ([N, T, ...]) or none ([N, ...]). Once, or one each."
    ),
]
Reset = Annotated[str, typer.Option(help="package.module:function called with the model before each run.")]
Neurons = Annotated[
    list[str] | None,
    typer.Option(
        "--spiking", help="Class or path of a foreign model's neurons, or NAME=0,1,2 with their values. Repeatable."
    ),
]
Values = Annotated[
    list[str] | None,
    typer.Option(
        help="What an input may hold: 0,1 or 0..15 (spikes, counts) or tokens:1000 (integers below it). Once for each input."
    ),
]


def _said(
    input_shape: list[str] | None,
    input_file: list[Path] | None,
    steps: int | None,
    time_axis: list[str] | None,
    reset: str,
    spiking: list[str] | None,
    values: list[str] | None,
) -> dict[str, Any]:
    """What was said of a model, for ``verify_target`` and ``profile_target``; only what was said."""
    shapes = []
    for text in input_shape or ():
        if not all(part.strip().isdecimal() for part in text.split(",") if text):
            raise ValueError(f"--shape takes whole numbers and commas, e.g. 3,32,32, got {text!r}")
        shapes.append(tuple(int(part) for part in text.split(",")) if text else ())
    said = {
        "shape": shapes,
        "input_file": input_file,
        "T": steps,
        "time_axis": [word for word in time_axis or () if word],
        "reset": reset,
        "spiking": spiking,
        "values": values,
    }
    return {name: value for name, value in said.items() if value}


def profile(
    model: Model,
    data: DataRoot = None,
    set_name: SetName = None,
    images: Annotated[int, typer.Option(min=1, help="How many test images to run.")] = 256,
    convention: Annotated[str, typer.Option(help="Energy convention: standard or orrc.")] = "standard",
    memory: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Count the memory of a training step on N images instead.")
    ] = None,
    input_shape: Shapes = None,
    input_file: InputFiles = None,
    steps: Steps = None,
    time_axis: TimeAxes = None,
    reset: Reset = "",
    spiking: Neurons = None,
    values: Values = None,
    json: AsJson = False,
) -> None:
    """Count spikes, synaptic operations, energy and state memory per layer, on real images.

    With --memory N: what a training step on N images keeps for the backward pass, by layer, and its peak.
    A registered name is profiled untrained, on noise of its published input size. package.module:factory, and any MODEL with
    --shape, --input or --T, is profiled on that input; the options are those of `saccade verify`.
    """
    from saccade.data import image_batches
    from saccade.files import open_model
    from saccade.measure import profile as measure
    from saccade.measure import training_memory
    from saccade.models import MODELS
    from saccade.verify import profile_target

    said = _said(input_shape, input_file, steps, time_axis, reset, spiking, values)
    batches: Iterable[Tensor]
    if said or (":" in model and model not in MODELS and not Path(model).exists()):
        if memory:
            raise ValueError(
                "--memory takes a model file, a run directory or a registered name, without options of the input"
            )
        counted: Any = profile_target(model, convention=convention, **said)
    else:
        if model in MODELS:
            opened = open_model(model)
            batches = [common.noise(opened, memory or 2)]
        else:
            opened, recipe = common.trained(Path(model))
            splits, _ = common.data_for(opened, recipe, set_name, data)
            batches = image_batches(splits.test, batch_size=memory or 100, limit=memory or images)
        network = common.ours(opened)
        first = next(iter(batches)) if memory else None
        counted = measure(network, batches, convention=convention) if first is None else training_memory(network, first)
    if json:
        common.print_json(counted.to_json())
    else:
        common.print_table(counted.table())


def prune(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, or a model file inside one.")],
    out: Annotated[Path | None, typer.Option(help="Where the pruned model goes (default: beside the model).")] = None,
    data: DataRoot = None,
    json: AsJson = False,
) -> None:
    """Remove the shortcuts that never fire on the training and validation data, and prove that nothing changed.

    The logits before and after are compared bit for bit on that data; any difference on the test set is reported.
    """
    from saccade.experiment import RunDirectory
    from saccade.experiment.stages import prune_run
    from saccade.files import model_file, save_model

    opened, recipe = common.trained(run, packed=False)
    if recipe is None:
        raise ValueError(f"{run}: natural pruning needs the run directory, for its training data")
    target = common.destination(out, opened, "pruned")
    splits, _ = common.data_for(opened, recipe, None, data)
    directory = RunDirectory(model_file(run).parent)
    chosen = directory.read_json("summary.json")["chosen_epoch"]
    with common.passes(json) as tell:
        pruned, report = prune_run(common.ours(opened), recipe, splits, directory, chosen, tell)
    if report["removed"]:
        save_model(pruned, target, splits.test.classes, splits.test.shape)
    directory.write_json("pruning.json", report)
    if json:
        common.print_json(report)
        return
    print_pruning(report)
    print(f"wrote {target}" if report["removed"] else "nothing to remove")


def print_pruning(report: dict) -> None:
    """The report of natural pruning, for people."""
    for row in report["shortcuts"]:
        verdict = "removed" if row["removed"] else "kept"
        print(f"{row['path']}: {row['spikes']:,} spikes, {verdict} ({row['story']})")
    before, after = report["parameters"]["before"], report["parameters"]["after"]
    print(f"parameters {before:,} -> {after:,}")
    for name, label in (("measured", "training and validation data"), ("test", "test set")):
        if report[name]:
            result = report[name]
            words = "identical" if result["equal"] else f"different on {result['differing_samples']}"
            print(f"logits on the {label}: {words} ({result['samples']:,} images)")


def fuse(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model file, run directory, or registered name (untrained).")
    ],
    out: Annotated[Path | None, typer.Option(help="Where the fused model goes (default: beside the model).")] = None,
    into: Annotated[str, typer.Option(help="Fold the norms into: conv or threshold.")] = "conv",
    data: DataRoot = None,
    set_name: SetName = None,
    images: Annotated[int, typer.Option(min=1, help="How many test images the copy is compared on.")] = 100,
    json: AsJson = False,
) -> None:
    """Write a copy for inference without batch norms, and say which share of its spikes differs from the model's.

    A registered name is fused untrained, and compared on noise.
    """
    from saccade.files import save_model
    from saccade.transforms import fuse as fold

    opened, target, sample, classes, shape = common.to_copy(model, out, "fused", images, set_name, data)
    fused = fold(common.ours(opened), sample, into)
    if not fused.folded and not fused.left:
        raise ValueError(f"{model}: has no norms to fold (is it fused already?); nothing was written")
    save_model(fused.model, target, classes, shape)
    if json:
        fields = {"folded": fused.folded, "left": fused.left, "mismatch": fused.mismatch}
        common.print_json({**fields, "total_mismatch": fused.total_mismatch, "images": images, "file": str(target)})
        return
    print(fused)
    print(f"wrote {target}")


def verify(
    model: Model,
    input_shape: Shapes = None,
    input_file: InputFiles = None,
    steps: Steps = None,
    time_axis: TimeAxes = None,
    reset: Reset = "",
    spiking: Neurons = None,
    values: Values = None,
    strict: Annotated[bool, typer.Option("--strict", help="A silent layer is an error, not a warning.")] = False,
    json: AsJson = False,
) -> None:
    """Check that a model is the function it claims to be: no sample sees another, no call remembers the last, ...

    Works on this package's models and on any torch module. Exit code 1 if a check fails.
    """
    from saccade.verify import verify_target

    said = _said(input_shape, input_file, steps, time_axis, reset, spiking, values)
    with _progress(json) as tell:
        verdict = verify_target(model, strict=strict, tell=tell, **said)
    if json:
        common.print_json(verdict.to_json())
    else:
        print(verdict.table())
    if not verdict.passed:
        raise typer.Exit(1)


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Says on a terminal's stderr what is being done, in one line that is gone at the end."""
    live = not quiet and sys.stderr.isatty()
    start = time.monotonic()

    def tell(what: str) -> None:
        if live:
            print(f"\r\033[K{what} ... ({time.monotonic() - start:.0f} s)", end="", file=sys.stderr, flush=True)

    try:
        tell("building the model")
        yield tell
    finally:
        if live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
