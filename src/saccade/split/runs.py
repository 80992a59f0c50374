"""The directory of a run: ``recipe.yaml state.safetensors rounds.csv summary.json report.html``."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

import saccade
from saccade.report import write_text
from saccade.split.checkpoint import read_state
from saccade.split.federation import Federation
from saccade.split.models import load_model
from saccade.split.page import page
from saccade.split.recipe import SplitRecipe, parse_recipe

COLUMNS = (
    "round", "train_loss", "train_accuracy", "eval_loss", "eval_accuracy", "tokens", "asked", "finished", "counted",
    "dropped_batches", "spectrum_lost", "seconds", "clock_s", "joules",
)  # fmt: skip


def begin(out: Path, recipe: SplitRecipe) -> None:
    """Make the directory. Raises ValueError if it holds something other than a run of this recipe."""
    text = yaml.safe_dump(recipe.plain(), sort_keys=False)
    file = out / "recipe.yaml"
    if out.exists() and any(out.iterdir()) and (not file.is_file() or file.read_text(encoding="utf-8") != text):
        raise ValueError(f"{out}: holds something else than a run of this recipe; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    write_text(file, text)


def finish(
    out: Path, federation: Federation, more: dict[str, Any] | None = None, clock: str = "on the virtual clock"
) -> dict[str, Any]:
    """Write rows, summary and report. Returns the summary."""
    text = io.StringIO()
    rows = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    rows.writeheader()
    rows.writerows({k: "" if row.get(k) is None else row[k] for k in COLUMNS} for row in federation.history)
    write_text(out / "rounds.csv", text.getvalue())
    scored = [row for row in federation.history if "eval_loss" in row]
    summary = {
        "recipe": federation.recipe.name,
        "seed": federation.recipe.seed,
        "rounds": federation.round,
        "eval_loss": scored[-1]["eval_loss"] if scored else None,
        "eval_accuracy": scored[-1]["eval_accuracy"] if scored else None,
        "clock_s": federation.clock_s,
        "bytes": federation.ledger.by_kind(),
        "bytes_up": federation.ledger.total("up"),
        "bytes_down": federation.ledger.total("down"),
        "versions": {"saccade": saccade.__version__, "torch": torch.__version__, "python": sys.version.split()[0]},
    } | (more or {})
    write_text(out / "summary.json", json.dumps(summary, indent=1) + "\n")
    write_report(out, federation, clock)
    return summary


def write_report(out: Path, federation: Federation, clock: str = "on the virtual clock") -> Path:
    target = out / "report.html"
    write_text(target, str(page(federation.record(clock))) + "\n")
    return target


def open_run(out: Path) -> Federation:
    """The federation of a run directory, as it was last saved. Raises ValueError if there is none."""
    state = out / "state.safetensors"
    record = read_state(state)[1]
    recipe = parse_recipe(record.get("recipe") or {}, str(state))
    clients = record.get("clients")
    if not isinstance(clients, list) or not all(isinstance(name, str) for name in clients):
        raise ValueError(f"{state}: a damaged state (no clients)")
    federation = Federation(recipe, load_model(recipe.model, recipe.seed), clients)
    federation.load(state)
    return federation
