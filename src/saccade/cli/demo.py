"""The demonstration: the whole path on data that comes with scikit-learn, in about two minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saccade.cli import common


def demo(
    out: Annotated[Path, typer.Option(help="Run directory; an earlier demo's is replaced.")] = Path("runs/demo"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Train on handwritten digits, count spikes and energy, remove silent shortcuts, check that nothing changed, and make an
    integer program with the same spikes."""
    from saccade.cli.analysing import print_pruning
    from saccade.experiment import RunDirectory, run

    common.remove_run(out, "syna_resnet/digits-demo")
    summary = run("syna_resnet/digits-demo", out, quiet=quiet)
    report = RunDirectory(out).read_json("pruning.json")
    cost = summary["profile"]
    print()
    print(f"{summary['test_accuracy']:.2%} of {summary['test_total']} held-out digits recognised (T = {summary['T']})")
    print(
        f"{cost['spikes_per_image']:,.0f} spikes an image, {cost['spikes_per_neuron']:.2f} a neuron, "
        f"{cost['energy_standard_uj']:.3f} uJ (45 nm, 4.6 pJ a multiply-accumulate, 0.9 pJ an addition)"
    )
    print_pruning(report)
    same = _deploy(out)
    print(f"report: {out / 'report.html'}")
    if summary["test_accuracy"] < 0.9 or not report["removed"] or not same:
        raise typer.Exit(1)


def _deploy(out: Path) -> bool:
    """Build, verify and time an integer program; whether all its spikes are the model's."""
    import statistics
    import time
    from collections.abc import Callable

    import torch

    from saccade.deploy import compare, lower, save_program
    from saccade.experiment import RunDirectory
    from saccade.experiment.building import load_splits
    from saccade.files import load_model

    run = RunDirectory(out)
    model = load_model(
        out / "pruned.safetensors" if (out / "pruned.safetensors").exists() else out / "model.safetensors"
    ).eval()
    test = load_splits(run.recipe().data).test
    pixels = test.__getitems__(list(range(len(test))))[0].float()
    program = lower(model, pixels[:1] / test.scale, unit=1 / test.scale, classes=test.classes)
    save_program(program, out / "program.sacc")
    found = compare(program, model, pixels)

    def median(call: Callable[[], object]) -> float:
        times = []
        for _ in range(40):
            begin = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin)
        return statistics.median(times[5:])

    one, whole = pixels[:1] / test.scale, pixels[:1].numpy()
    with torch.no_grad():
        torch_s = median(lambda: model(one))
    ours = median(lambda: program.run(whole))
    size = (out / "program.sacc").stat().st_size
    print(
        f"integer program: {size:,} bytes, {found.mismatches} of {found.levels:,} spikes on {len(pixels)} test images differ "
        "from the model in float64"
    )
    print(
        f"one image takes {ours * 1e3:.2f} ms in whole numbers and {torch_s * 1e3:.2f} ms in PyTorch: {torch_s / ours:.1f}x"
    )
    return found.mismatches == 0
