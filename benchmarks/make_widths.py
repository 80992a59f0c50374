"""The tables and the figure of docs/benchmarks.md on spiking networks beside int8 ANNs, from results/deploy/widths.json.

python benchmarks/make_widths.py
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from markdown import fill, short, table
from widths import KINDS, RESULTS, ROWS

ROOT = Path(__file__).parents[1]
PAGE, FIGURE = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "images" / "widths.svg"
NAMES = {
    "ann": "ANN, ReLU, int8",
    "d4": "integer neurons, 4 levels, T = 1",
    "d1": "spikes of a bit, T = 1",
    "t4": "LIF, T = 4",
}
COSTS = {"ms": "latency, ms", "kb": "file, kB", "energy_uj": "energy, µJ"}
Row = dict[str, Any]


def means(record: Row) -> dict[str, Row]:
    """By row: means over seeds, in percent, kB and µJ; latency of seed 0."""
    found: dict[str, Row] = {}
    for name in ROWS:
        runs = [row for row in record["rows"] if row["row"] == name]
        if runs:
            accuracies = [100 * run["test_accuracy"] for run in runs]
            found[name] = {
                "accuracy": statistics.mean(accuracies),
                "spread": statistics.stdev(accuracies) if len(runs) > 1 else None,
                "float": 100 * statistics.mean(run["test_accuracy_float"] for run in runs),
                "seeds": len(runs),
                "ms": record["latency"][name]["median_ms"],
                "kb": statistics.mean(run["bytes"] for run in runs) / 1e3,
                "energy_uj": statistics.mean(run["energy_nj"] for run in runs) / 1e3,
            }
    return found


def against_ann(found: dict[str, Row], name: str, cost: str) -> str:
    """Points above the ANNs at the same cost, between whose widths the accuracy is a line over the logarithm of the cost."""
    anns = sorted((row[cost], row["accuracy"]) for other, row in found.items() if ROWS[other][0] == "ann")
    costs, accuracies = (np.array(part) for part in zip(*anns, strict=True))
    x = found[name][cost]
    if x < costs[0]:
        return f"cheaper than all ({found[name]['accuracy'] - accuracies[0]:+.1f} to the smallest)"
    over = found[name]["accuracy"] - np.interp(np.log(x), np.log(costs), accuracies)
    return f"{over:+.1f}" if x <= costs[-1] else f"dearer than all ({over:+.1f} to the largest)"


def widths(record: Row) -> str:
    found, rows = means(record), []
    for name, row in found.items():
        kind, factor = ROWS[name]
        spread = "" if row["spread"] is None else f" ± {row['spread']:.1f}"
        accuracy = [f"{row['accuracy']:.1f}{spread} ({row['seeds']})", f"{row['float']:.1f}"]
        rows.append(
            [NAMES[kind], f"{factor:g}", *accuracy, f"{row['ms']:.3f}", f"{row['kb']:.0f}", f"{row['energy_uj']:.2f}"]
        )
    head = ["network", "width", "test accuracy, % (seeds)", "before, %", "ms", "kB", "µJ"]
    return table(head, rows)


def crossing(record: Row) -> str:
    found = means(record)
    rows = [
        [NAMES[ROWS[name][0]], f"{ROWS[name][1]:g}", *(against_ann(found, name, cost) for cost in COSTS)]
        for name in found
        if ROWS[name][0] != "ann"
    ]
    return table(["network", "width", *(f"at the same {what.split(',')[0]}" for what in COSTS.values())], rows)


def made(record: Row) -> str:
    machine, epochs = record["machine"], sorted({row["epochs"] for row in record["rows"]})
    how = f"{', '.join(map(str, epochs))} epochs; commit {short(record['commit'])}"
    return table(
        ("trained", "latency on"), [[how, f"{machine['cpu']}, one thread, load {machine['load']:.2g} at the start"]]
    )


def draw(record: Row) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

    found = means(record)
    with rc_context({"svg.hashsalt": "widths", "svg.fonttype": "none"}):
        figure = Figure(figsize=(11, 3.6), layout="constrained")
        for axes, (cost, label) in zip(figure.subplots(1, len(COSTS), sharey=True), COSTS.items(), strict=True):
            for kind, marker in zip(KINDS, "so^D", strict=True):
                points = sorted((row[cost], row["accuracy"]) for name, row in found.items() if ROWS[name][0] == kind)
                if points:
                    axes.plot(*zip(*points, strict=True), marker=marker, markersize=5, linewidth=1.4, label=NAMES[kind])
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
            axes.xaxis.set_major_formatter(ScalarFormatter())
            axes.xaxis.set_minor_locator(NullLocator())
            axes.tick_params(which="both", labelsize=8)
            axes.grid(True, linewidth=0.5, alpha=0.5)
            axes.set_xlabel(label, fontsize=9)
        figure.axes[0].set_ylabel("CIFAR-10 test accuracy, %", fontsize=9)
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(FIGURE, metadata={"Date": None})


if __name__ == "__main__":
    record = json.loads(RESULTS.read_text())
    fill(PAGE, {"widths": widths(record), "widths-crossing": crossing(record), "widths-made": made(record)})
    draw(record)
