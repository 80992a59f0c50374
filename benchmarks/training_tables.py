"""Tables of small trainings: what a row is, going on where a table stopped, mean and spread over seeds.

A table is a function that gives recipes by row; ``main`` makes a script of several.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from markdown import table

from saccade.experiment import environment, parse, run
from saccade.report import write_text

FORMAT = "saccade-training-table-1"
Tables = Mapping[str, Callable[[], dict[str, dict[str, Any]]]]


def measured(
    row: str, seed: int, raw: dict[str, Any], data: str, folder: Path, accelerator: str = "cpu"
) -> dict[str, Any]:
    """One run: its scores, its cost, and what it was made with."""
    made = environment()
    settings = raw | {"seed": seed, "data": raw["data"] | {"root": data}}
    settings["train"] = raw["train"] | {"accelerator": accelerator}
    if "teacher" in raw:
        settings["teacher"] = raw["teacher"] | {"model": str(folder / f"teacher-{seed}" / "model.safetensors")}
    summary = run(parse(settings), folder / f"{row.replace(' ', '_')}-{seed}", quiet=True, report=False)
    scores = ("test_accuracy", "validation_accuracy", "chosen_epoch", "parameters", "training_seconds")
    cost = {key: summary["profile"][key] for key in ("spikes_per_neuron", "energy_standard_uj")}
    source = {key: made[key] for key in ("commit", "torch", "started", "threads", "saccade")}
    if accelerator == "cuda":
        source["device"] = torch.cuda.get_device_name()
    return {"row": row, "seed": seed} | {key: summary[key] for key in scores} | cost | source


def complete(tables: Tables, results: Path, name: str, data: str, seeds: int, accelerator: str = "cpu") -> None:
    """Run what the stored table lacks, a seed of all rows after the other, and store after each run."""
    target = results / f"{name}.json"
    record = json.loads(target.read_text()) if target.exists() else {"format": FORMAT, "runs": []}
    done = {(row["row"], row["seed"]) for row in record["runs"]}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            rows = tables[name]()
            lacking = [row for row in rows if (row, seed) not in done]
            if "teacher" in rows and lacking and "teacher" not in lacking:
                lacking.insert(0, "teacher")  # its file is gone; the same seed gives the same one
            for row in lacking:
                found = measured(row, seed, rows[row], data, Path(folder), accelerator)
                print(f"{row:24} seed {seed}: {found['test_accuracy']:.2%}", flush=True)
                if (row, seed) not in done:
                    record["runs"].append(found)
                    write_text(target, json.dumps(record, indent=1) + "\n")


def lines(tables: Tables, results: Path, name: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Rows of a stored table in the order of their settings, each with its runs."""
    stored = results / f"{name}.json"
    runs = json.loads(stored.read_text())["runs"] if stored.exists() else []
    for row in tables[name]():
        if found := [run for run in runs if run["row"] == row]:
            yield row, found


def spread(values: list[float], digits: int = 2) -> str:
    """Mean and standard deviation over seeds."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def as_markdown(tables: Tables, results: Path, name: str) -> str:
    """A stored table: accuracy with its spread, size and cost."""
    rows = []
    for row, runs in lines(tables, results, name):
        accuracy = spread([100 * run["test_accuracy"] for run in runs])
        rate = statistics.mean(run["spikes_per_neuron"] for run in runs)
        energy = statistics.mean(run["energy_standard_uj"] for run in runs)
        rows.append(
            [f"`{row}`", accuracy, str(len(runs)), f"{runs[0]['parameters']:,}", f"{rate:.3f}", f"{energy:.2f}"]
        )
    rows = rows or [["not measured yet", *[""] * 5]]
    return table(
        ["row", "test accuracy, %", "seeds", "parameters", "spikes a neuron", "energy, µJ"], rows, numbers=True
    )


def main(tables: Tables, results: Path, doc: str) -> None:
    """The command line: tables by name, all by default."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("tables", nargs="*", choices=[[], *tables])
    parser.add_argument("--data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--accelerator", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--print", action="store_true", help="only print what is stored")
    given = parser.parse_args()
    for name in given.tables or tables:
        if not given.print:
            complete(tables, results, name, given.data, given.seeds, given.accelerator)
        if (results / f"{name}.json").exists():
            print(name)
            for row, runs in lines(tables, results, name):
                print(f"  {row:24} {spread([100 * run['test_accuracy'] for run in runs])} % ({len(runs)} seeds)")
