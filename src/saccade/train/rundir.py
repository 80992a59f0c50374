"""The run directory: what a run leaves behind, and what it says while it runs."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import yaml

import saccade
from saccade.train.recipe import Recipe, dump, parse


def write_text(path: Path, text: str) -> None:
    """Write aside, then rename: a reader never sees half a file, a full disk leaves the old one."""
    aside = path.with_name(path.name + ".part")
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class RunDirectory:
    """``recipe.yaml env.json metrics.csv model.safetensors checkpoints/{initial,last,best}/ summary.json tensorboard/``."""

    path: Path

    @classmethod
    def open(cls, path: str | Path, recipe: Recipe, resume: bool, write: bool = True) -> RunDirectory:
        """Make the directory, or check that it holds this recipe's run. Raises ValueError if it does not.

        ``write`` is for one of several processes; the others only look.
        """
        run = cls(Path(path))
        stored = run.path / "recipe.yaml"
        if stored.exists():
            if not resume and run.has_checkpoint():
                raise ValueError(f"{path}: holds a run already; resume it (--resume) or choose another directory")
            if resume and run.recipe() != recipe:
                raise ValueError(f"{path}: was started with another recipe; resume it without changes")
        elif resume:
            raise ValueError(f"{path}: no run to resume here (no recipe.yaml)")
        if write and not resume:
            run.path.mkdir(parents=True, exist_ok=True)
            write_text(stored, dump(recipe))
            run.write_json("env.json", environment())
            run.rewrite_metrics([])
        return run

    def recipe(self) -> Recipe:
        """The recipe the run was started with. Raises ValueError if there is none."""
        path = self.path / "recipe.yaml"
        try:
            return parse(yaml.safe_load(path.read_text()), str(path))
        except (OSError, yaml.YAMLError) as error:
            raise ValueError(f"{path}: cannot read the run's recipe ({error})") from None

    def checkpoint(self, name: str) -> Path:
        return self.path / "checkpoints" / name / "state.safetensors"

    def has_checkpoint(self) -> bool:
        return self.checkpoint("last").exists()

    def write_json(self, name: str, value: Any) -> None:
        write_text(self.path / name, json.dumps(value, indent=1) + "\n")

    def read_json(self, name: str) -> dict[str, Any]:
        """One of the run's JSON files. Raises ValueError naming it if it is missing or damaged."""
        path = self.path / name
        try:
            value = json.loads(path.read_text())
        except FileNotFoundError:
            raise ValueError(f"{self.path}: holds no finished run (no {name})") from None
        except ValueError as error:
            raise ValueError(f"{path}: not valid JSON ({error})") from None
        if not isinstance(value, dict):
            raise ValueError(f"{path}: not what saccade writes (expected an object)")
        return value

    def metrics(self) -> list[dict[str, float | None]]:
        """The rows of metrics.csv; empty cells are None. Raises ValueError naming the file if it is damaged."""
        path = self.path / "metrics.csv"
        try:
            with path.open(newline="") as file:
                return [{k: float(cell) if cell else None for k, cell in row.items()} for row in csv.DictReader(file)]
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{path}: not a readable metrics file ({error})") from None

    def rewrite_metrics(self, rows: list[dict[str, Any]]) -> None:
        write_text(self.path / "metrics.csv", _csv(rows, header=True) if rows else "")

    def log(self, row: dict[str, Any]) -> None:
        """Append a row to metrics.csv."""
        file = self.path / "metrics.csv"
        empty = not file.exists() or file.stat().st_size == 0
        if not empty:  # an epoch without validation lacks the rate columns
            with file.open(newline="") as old:
                row = {key: row.get(key) for key in next(csv.reader(old))}
        with file.open("a", newline="") as out:
            out.write(_csv([row], header=empty))

    @contextlib.contextmanager
    def reporter(self, recipe: Recipe, quiet: bool) -> Iterator[Reporter]:
        """What tells the user (progress bars on a terminal, a line an epoch elsewhere) and TensorBoard."""
        reporter = Reporter(self.path, recipe, quiet)
        try:
            yield reporter
        finally:
            reporter.close()


def _csv(rows: list[dict[str, Any]], header: bool) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n", extrasaction="ignore")
    if header:
        writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)
    return out.getvalue()


def environment() -> dict[str, Any]:
    """Versions, machine, command and commit, for env.json."""
    return {
        "saccade": saccade.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _commit() -> str | None:
    """The commit of the sources in use, "-dirty" if they were changed; None outside a checkout."""
    here = Path(__file__).parent
    try:
        options: dict[str, Any] = {"cwd": here, "capture_output": True, "text": True, "timeout": 10, "check": True}
        commit = subprocess.run(["git", "rev-parse", "HEAD"], **options).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "-uno", "--", ".."], **options).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("-dirty" if changed else "")


class Reporter:
    """Progress on the terminal and scalars for TensorBoard."""

    def __init__(self, path: Path, recipe: Recipe, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self.epochs = recipe.train.epochs
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        live = self.console.is_terminal and not quiet
        self.bar = (
            Progress(*columns, TextColumn("{task.fields[note]}"), console=self.console, transient=True)
            if live
            else None
        )
        self.task: Any = None
        self.path, self.quiet = path, quiet
        self.writer: Any = None
        if self.bar:
            self.bar.start()

    def epoch(self, epoch: int, steps: int, done: int) -> None:
        self._task(f"epoch {epoch}/{self.epochs}", steps, done)

    def step(self, done: int, loss: float) -> None:
        if self.bar:
            self.bar.update(self.task, completed=done, note=f"loss {loss:.4f}")

    def testing(self, total: int) -> None:
        self._task("test set", total, 0)

    def tested(self, count: int) -> None:
        if self.bar:
            self.bar.advance(self.task, count)

    def resumed(self, epoch: int, step: int) -> None:
        self.console.print(f"resumed after epoch {epoch}" + (f", step {step}" if step else ""))

    def logged(self, row: dict[str, Any]) -> None:
        if self.writer is None and not self.quiet:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.path / "tensorboard"))
        if self.writer is not None:
            for key, value in row.items():
                if value is not None and key != "epoch":
                    self.writer.add_scalar(key, value, row["epoch"])
        parts = [f"epoch {row['epoch']:>3}/{self.epochs}"]
        for key, label in (("train_loss", "loss"), ("train_accuracy", "train"), ("validation_accuracy", "validation")):
            if row[key] is not None:
                parts.append(f"{label} {row[key]:.4f}" if key == "train_loss" else f"{label} {row[key]:.2%}")
        self.console.print("  ".join([*parts, f"{row['seconds']:.0f} s"]))

    def _task(self, name: str, total: int, done: int) -> None:
        if self.bar:
            if self.task is not None:
                self.bar.remove_task(self.task)
            self.task = self.bar.add_task(name, total=total, completed=done, note="")

    def close(self) -> None:
        if self.bar:
            self.bar.stop()
        if self.writer is not None:
            self.writer.close()
