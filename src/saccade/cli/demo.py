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
    """Train on handwritten digits, count spikes and energy, remove silent shortcuts, check that nothing changed."""
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
    print(f"report: {out / 'report.html'}")
    if summary["test_accuracy"] < 0.9 or not report["removed"]:
        raise typer.Exit(1)
