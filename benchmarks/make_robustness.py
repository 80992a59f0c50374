"""Fill the tables of docs/robustness.md from the stored results: python benchmarks/make_robustness.py

A table stands behind ``<!-- NAME -->``; all other text is left as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from markdown import fill, table
from robust_tables import DEFENCES, LADDER, RESULTS, WEIGHTS
from training_tables import spread

ROOT = Path(__file__).parent.parent
SHOWN = {"fgsm": "FGSM", "pgd": "PGD-40", "apgd_ce": "APGD", "square": "Square", "assg": "ASSG"}


def summaries(row: str, eps: str) -> list[dict[str, Any]]:
    """The evaluations of a row, a seed after the other."""
    files = sorted(RESULTS.glob(f"{row}-seed*-eps{eps}.json"))
    return [json.loads(file.read_text())["summary"] for file in files]


def percent(shares: list[float]) -> str:
    return spread([100 * share for share in shares], 1)


def row(name: str, potentials: bool) -> list[str]:
    near, far = summaries(name, "2"), summaries(name, "8")
    cells = [f"`{name}`", percent([s["about"]["test_accuracy"] for s in near])]
    cells += [percent([s["attacks"][attack]["accuracy"] for s in near]) for attack in SHOWN]
    cells += [f"**{percent([s['worst']['accuracy'] for s in found])}**" for found in (near, far)]
    if potentials:
        cells += [percent([s["about"][key] for s in far]) for key in ("near_threshold", "flipped_by_pgd20")]
    return cells


def defences() -> str:
    head = ["recipe", "clean, of 10,000", *SHOWN.values(), "worst, 2/255", "worst, 8/255", "near threshold", "flipped"]
    return table(head, [row(name, True) for name in DEFENCES], numbers=True)


def weights() -> str:
    names = [name for kind in ("vanilla", "at") for name in (kind, *(f"{kind}-{words}" for words in WEIGHTS))]
    head = ["network", "clean, of 10,000", *SHOWN.values(), "worst, 2/255", "worst, 8/255"]
    return table(head, [row(name, False) for name in names], numbers=True)


def records(name: str) -> dict[str, dict[str, Any]]:
    stored = json.loads((RESULTS.parent / f"cifar10-{name}.json").read_text())["models"]
    return {record["model"]: record for record in stored}


def ladder() -> str:
    found = records("ladder")
    return table(
        ["attack", *(f"`{name}`" for name in LADDER)],
        [[attack, *(f"{found[name]['right'][attack]:.0%}" for name in LADDER)] for attack in found[LADDER[0]]["right"]],
        numbers=True,
    )


def single() -> str:
    found = records("single-attacks")
    rows = []
    for name in LADDER:
        right = found[name]["right"]
        parts = [{k: v for k, v in right.items() if k.startswith("torchattacks") == theirs} for theirs in (False, True)]
        best = [min(part, key=lambda key, part=part: part[key]) for part in parts]
        rows.append(
            [f"`{name}`", f"{found[name]['preset']:.0%}"]
            + [f"{right[key]:.0%} (`{key.removeprefix('torchattacks ')}`)" for key in best]
            + [str(sum(value < found[name]["preset"] - 1e-9 for value in right.values()))]
        )
    parts = [sum(key.startswith("torchattacks") == theirs for key in right) for theirs in (False, True)]
    head = ["network", "preset standard", f"strongest of our {parts[0]}", f"strongest of torchattacks' {parts[1]}"]
    return table([*head, "attacks that break more than the preset"], rows, numbers=True)


def section() -> str:
    """The defences for the page of results."""
    where = "`results/robustness/cifar10`, three seeds, in percent"
    page = "how to read it stands in [robustness](robustness.md#defences-on-cifar-10)"
    return f"## Defences against attacks on CIFAR-10\n\n{where}; {page}.\n\n{defences()}"


TABLES: dict[str, Callable[[], str]] = {f.__name__: f for f in (defences, weights, ladder, single)}


if __name__ == "__main__":
    fill(ROOT / "docs" / "robustness.md", {name: make() for name, make in TABLES.items()})
