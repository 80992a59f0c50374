"""The tables of docs/deploy-c.md about generators of C, from results/deploy/generated-c.json.

python benchmarks/make_generated_c.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from markdown import fill, short, table

ROOT = Path(__file__).parents[1]
PAGE, STORED = ROOT / "docs" / "deploy-c.md", ROOT / "results" / "deploy" / "generated-c.json"
Row = dict[str, Any]


def name(row: Row) -> list[str]:
    return [row["by"], f"`{row['settings']}`" if row["by"] == "saccade" else row["settings"]]


def equal(record: Row) -> str:
    rows = []
    for row in record["rows"]:
        if "error" in row:
            rows.append([*name(row), row["error"], "–", "–", "–"])
            continue
        c = row["compared"]
        share = f"{c['levels_that_differ']:,} ({100 * c['levels_that_differ'] / c['levels']:.2g} %)"
        differ = "0" if not c["levels_that_differ"] else share
        same, right = f"{c['same_class']} of {c['pictures']}", f"{c['right']} ({c['model_right']})"
        rows.append([*name(row), differ, f"{c['largest_difference']:.1g}", same, right])
    levels = next(row["compared"]["levels"] for row in record["rows"] if "error" not in row)
    head = ("C of", "settings", f"spikes that differ, of {levels:,}", "largest difference of a logit", "same class")
    return table((*head, "right (the model)"), rows)


def times(record: Row) -> str:
    rows = []
    plain, native = record["flags"]
    for row in record["rows"]:
        if "error" in row:
            continue
        a, b = row[plain], row[native]
        low, high = a["over_first"]["quartiles"]
        over = f"{a['over_first']['median']:.2f} ({low:.2f} to {high:.2f})"
        both = [f"{a['ms']['median']:.2f}", over, f"{b['ms']['median']:.2f}", f"{b['over_first']['median']:.2f}"]
        ram = a["kept"] + a["fixed"]
        rows.append([*name(row), *both, f"{a['code'] + a['constants']:,}", f"{ram:,}", f"{a['stack']:,}"])
    head = ("C of", "settings", f"ms, `{plain}`", "over the first row", f"ms, `{native}`", "over the first row")
    return table((*head, "code and constants", "RAM", "stack"), rows)


def board(record: Row) -> str:
    rows = []
    for row in record["rows"]:
        if "error" in row:
            continue
        found = row["board"]
        if "error" in found:
            rows.append([*name(row), found["error"], "–", "–"])
            continue
        ram = row[record["flags"][0]]["kept"] + found["fixed"]
        flash = found["code"] + found["constants"]
        rows.append([*name(row), f"{flash:,}", f"{ram:,}", f"{found['instructions'] / 1e6:.2f} M"])
    return table(("C of", "settings", "flash, bytes", "RAM, bytes", "instructions a picture"), rows)


def made(record: Row) -> str:
    m, v = record["machine"], record["versions"]
    return table(
        ("measured", "by", "on"),
        [
            [
                f"{record['started'][:10]}, commit {short(record['commit'])}",
                f"`{record['command']}`",
                f"{m['cpu']}, load {m['load']:.2g} at the start; {record['compiler']}; qualia-codegen "
                f"{v['qualia-codegen-core']}, its plugin {v['qualia-codegen-plugin-snn']}, snn-mlir {v['snn-mlir']}",
            ]
        ],
    )


TABLES = {
    "generated-c-equal": equal,
    "generated-c-times": times,
    "generated-c-board": board,
    "generated-c-made": made,
}


if __name__ == "__main__":
    record = json.loads(STORED.read_text())
    fill(PAGE, {mark: make(record) for mark, make in TABLES.items()})
