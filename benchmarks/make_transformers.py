"""Fill the tables of docs/transformers.md from the stored results: python benchmarks/make_transformers.py

A table stands behind ``<!-- NAME -->``; all other text is left as it is.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

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


def main() -> None:
    page = ROOT / "docs" / "transformers.md"
    text = page.read_text()
    for name, made in (("attention", attention()), ("dendritic", dendritic())):
        text = re.sub(rf"<!-- {name} -->(\n\|.*)*", lambda _, n=name, m=made: f"<!-- {n} -->\n{m}", text)
    page.write_text(text)


if __name__ == "__main__":
    main()
