"""Fill the tables of the pages on transformers from the stored results: python benchmarks/make_transformers.py

A table stands behind ``<!-- NAME -->``; all other text is left as it is.
"""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

from markdown import fill, table
from training_tables import as_markdown
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
    return table(
        ["attention", "ms at N = 64", "196", "1024", "4096", "slope", "last", "MB at N = 196", "4096"],
        rows,
        numbers=True,
    )


def dendritic() -> str:
    found, rows = load("dendritic", "table"), []
    ours = found["saccade"]["backward"]["median_ms"]
    for name, by in found.items():
        parts = [[number(by[d][key]) for key in ("median_ms", "low_ms", "high_ms")] for d in ("forward", "backward")]
        times = [f"{median} ({low} to {high})" for median, low, high in parts]
        shown = "ours, native" if name == "saccade" else name
        rows.append([shown, *times, f"{by['backward']['median_ms'] / ours:.1f}"])
    return table(["contender", "forward, ms", "forward and backward, ms", "over ours"], rows, numbers=True)


def trained(name: str) -> str:
    return as_markdown(TABLES, RESULTS, name)


PAGES = {
    "transformers": {"attention": attention, "dendritic": dendritic, "swap": lambda: trained("attention")},
    "qsd": {name: lambda name=name: trained(name) for name in ("bits", "levels", "distillation")},
    "lrf-dyn": {"dilations": lambda: trained("dilations")},
}


if __name__ == "__main__":
    for name, tables in PAGES.items():
        fill(ROOT / "docs" / f"{name}.md", {mark: make() for mark, make in tables.items()})
