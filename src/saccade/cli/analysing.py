"""Commands that look into a model: what it costs, what can go, whether it keeps its promises."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saccade.cli import common
from saccade.cli.training import AsJson, DataRoot, SetName

if TYPE_CHECKING:
    from torch import Tensor


def profile(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model file, a run directory, or a registered name.")],
    data: DataRoot = None,
    set_name: SetName = None,
    images: Annotated[int, typer.Option(min=1, help="How many test images to run.")] = 256,
    convention: Annotated[str, typer.Option(help="Energy convention: standard or orrc.")] = "standard",
    memory: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Count the memory of a training step on N images instead.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Count spikes, synaptic operations, energy and state memory per layer, on real images.

    With --memory N: what a training step on N images keeps for the backward pass, by layer, and its peak.
    A registered name is profiled untrained, on noise of its published input size.
    """
    import torch

    from saccade.data import image_batches
    from saccade.experiment import open_run
    from saccade.measure import profile as measure
    from saccade.measure import training_memory
    from saccade.models import MODELS, create_model

    batches: Iterable[Tensor]
    if model in MODELS:
        network = create_model(model).eval()
        _, height, width = MODELS[model].input
        noise = torch.Generator().manual_seed(0)
        batches = [torch.rand(memory or 2, network.in_channels, height, width, generator=noise)]
    else:
        file, recipe = open_run(Path(model))
        network, splits, _ = common.with_data(file, recipe, set_name, data)
        batches = image_batches(splits.test, batch_size=memory or 100, limit=memory or images)
    if memory:
        counted: Any = training_memory(network, next(iter(batches)))
    else:
        counted = measure(network, batches, convention=convention)
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
    from saccade.experiment import RunDirectory, open_run
    from saccade.experiment.stages import prune_run
    from saccade.files import save_model

    file, recipe = open_run(run)
    if recipe is None:
        raise ValueError(f"{run}: natural pruning needs the run directory, for its training data")
    network, splits, _ = common.with_data(file, recipe, None, data, packed=False)
    directory = RunDirectory(file.parent)
    chosen = directory.read_json("summary.json")["chosen_epoch"]
    with common.passes(json) as tell:
        pruned, report = prune_run(network, recipe, splits, directory, chosen, tell)
    target = out or file.with_name("pruned.safetensors")
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
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model file, or a run directory.")],
    out: Annotated[Path | None, typer.Option(help="Where the fused model goes (default: beside the model).")] = None,
    into: Annotated[str, typer.Option(help="Fold the norms into: conv or threshold.")] = "conv",
    data: DataRoot = None,
    set_name: SetName = None,
    images: Annotated[int, typer.Option(min=1, help="How many test images the copy is compared on.")] = 100,
    json: AsJson = False,
) -> None:
    """Write a copy for inference without batch norms, and say which share of its spikes differs from the model's."""
    from saccade.data import image_batches
    from saccade.experiment import open_run
    from saccade.files import save_model
    from saccade.transforms import fuse as fold

    file, recipe = open_run(model)
    network, splits, _ = common.with_data(file, recipe, set_name, data, packed=False)
    fused = fold(network, next(iter(image_batches(splits.test, images, limit=images))), into)
    target = out or file.with_name("fused.safetensors")
    save_model(fused.model, target, splits.test.classes, splits.test.shape)
    if json:
        fields = {"folded": fused.folded, "left": fused.left, "mismatch": fused.mismatch}
        common.print_json({**fields, "total_mismatch": fused.total_mismatch, "images": images, "file": str(target)})
        return
    print(fused)
    print(f"wrote {target}")


def verify(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A model file, run directory, registered name, or package.module:factory."
        ),
    ],
    input_shape: Annotated[str, typer.Option("--shape", help="Input of one sample, without time, e.g. 3,32,32.")] = "",
    input_file: Annotated[Path | None, typer.Option("--input", help="A .npy file with a batch of inputs.")] = None,
    steps: Annotated[int | None, typer.Option("--T", help="Steps of the sequences to test with.")] = None,
    time_axis: Annotated[
        str,
        typer.Option(help="Of a foreign model's input: first ([T, N, ...]), second ([N, T, ...]) or none ([N, ...])."),
    ] = "",
    reset: Annotated[str, typer.Option(help="package.module:function called with the model before each run.")] = "",
    spiking: Annotated[
        list[str] | None,
        typer.Option(help="Class or path of a foreign model's neurons, or NAME=0,1,2 with their values. Repeatable."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="A silent layer is an error, not a warning.")] = False,
    json: AsJson = False,
) -> None:
    """Check that a model is the function it claims to be: no sample sees another, no call remembers the last, ...

    Works on this package's models and on any torch module. Exit code 1 if a check fails.
    """
    from saccade.verify import verify_target

    if not all(part.strip().isdecimal() for part in input_shape.split(",") if input_shape):
        raise ValueError(f"--shape takes whole numbers and commas, e.g. 3,32,32, got {input_shape!r}")
    verdict = verify_target(
        model,
        shape=tuple(int(part) for part in input_shape.split(",")) if input_shape else None,
        input_file=input_file,
        T=steps,
        time_axis=time_axis or None,
        reset=reset or None,
        spiking=tuple(spiking or ()),
        strict=strict,
    )
    if json:
        common.print_json(verdict.to_json())
    else:
        print(verdict.table())
    if not verdict.passed:
        raise typer.Exit(1)
