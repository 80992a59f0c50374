"""Fill the tables of the pages on transformers from the stored results: python benchmarks/make_transformers.py

A table stands behind ``<!-- NAME -->``; all other text is left as it is.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

from training_tables import lines, spread
from transformer_tables import RESULTS, TABLES

ROOT = Path(__file__).parent.parent
Rows = dict[str, dict[Any, dict[str, Any]]]  # by contender, then by N or direction


def load(name: str, key: str) -> Rows:
    found: Rows = {}
    for row in json.loads((ROOT / "results" / "benchmarks" / f"{name}-keep.json").read_text())["rows"]:
        found.setdefault(row["contender"], {})[row[key]] = row
    return found


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def attention() -> str:
    found, shown, rows = load("attention", "N"), (64, 196, 1024, 4096), []
    for name in sorted(found, key=lambda name: found[name][4096]["median_ms"]):
        by = found[name]
        logs = [(math.log(n), math.log(by[n]["median_ms"])) for n in sorted(by)]
        slope = statistics.linear_regression(*zip(*logs, strict=True)).slope
        last = (logs[-1][1] - logs[-2][1]) / (logs[-1][0] - logs[-2][0])
        times = [number(by[n]["median_ms"]) for n in shown]
        memory = [number(by[n]["tensors_mb"]) for n in (196, 4096)]
        rows.append([f"`{name}`", *times, f"{slope:.2f}", f"{last:.2f}", *memory])
    return table(["attention", "ms at N = 64", "196", "1024", "4096", "slope", "last", "MB at N = 196", "4096"], rows)


def dendritic() -> str:
    found, rows = load("dendritic", "table"), []
    ours = found["saccade"]["backward"]["median_ms"]
    for name, by in found.items():
        parts = [[number(by[d][key]) for key in ("median_ms", "low_ms", "high_ms")] for d in ("forward", "backward")]
        times = [f"{median} ({low} to {high})" for median, low, high in parts]
        shown = "ours, native" if name == "saccade" else name
        rows.append([shown, *times, f"{by['backward']['median_ms'] / ours:.1f}"])
    return table(["contender", "forward, ms", "forward and backward, ms", "over ours"], rows)


def trained(name: str) -> str:
    """A table of ``transformer_tables.py``, as far as it is stored."""
    rows = []
    for row, runs in lines(TABLES, RESULTS, name):
        accuracy = spread([100 * run["test_accuracy"] for run in runs])
        rate = statistics.mean(run["spikes_per_neuron"] for run in runs)
        energy = statistics.mean(run["energy_standard_uj"] for run in runs)
        rows.append(
            [f"`{row}`", accuracy, str(len(runs)), f"{runs[0]['parameters']:,}", f"{rate:.3f}", f"{energy:.2f}"]
        )
    return table(["row", "test accuracy, %", "seeds", "parameters", "spikes a neuron", "energy, µJ"], rows)


PAGES = {
    "transformers": {"attention": attention, "dendritic": dendritic, "swap": lambda: trained("attention")},
    "qsd": {name: lambda name=name: trained(name) for name in ("bits", "levels", "distillation")},
    "lrf-dyn": {"dilations": lambda: trained("dilations")},
}


def main() -> None:
    for name, tables in PAGES.items():
        page = ROOT / "docs" / f"{name}.md"
        text = page.read_text()
        for mark, make in tables.items():
            if f"<!-- {mark} -->" in text:
                made = f"<!-- {mark} -->\n{make()}"
                text = re.sub(rf"<!-- {mark} -->(\n\|.*)*", lambda _, made=made: made, text)
        page.write_text(text)


if __name__ == "__main__":
    main()
