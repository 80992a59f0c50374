"""The run directory: what a run leaves behind, and what it says while it runs."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import yaml

import saccade
from saccade.experiment.recipe import Recipe, dump, load_recipe, parse, read_text, read_yaml, with_root
from saccade.files import model_file
from saccade.files.tensors import in_one_line
from saccade.report.run_files import RunFiles, write_text
from saccade.train import Reporter, checkpoint_path
from saccade.train.engine import precision_for
from saccade.train.tasks import Score, Task

QUIET_SECONDS = 30.0  # where no bar can be drawn, a line every so often inside an epoch
_held: set[int] = set()  # locks of this process: in a child they would go on after it


def _let_go() -> None:
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


@dataclass(frozen=True)
class RunDirectory(RunFiles):
    """``recipe.yaml env.json metrics.csv model.safetensors checkpoints/{initial,last,best}/ summary.json tensorboard/``."""

    @classmethod
    def open(cls, path: str | Path, recipe: Recipe, resume: bool, write: bool = True) -> RunDirectory:
        """Make the directory, or check that it holds this recipe's run. Raises ValueError if it does not.

        ``write`` is for one of several processes; the others only look. A run that goes on may find its images elsewhere.
        """
        run = cls(Path(path))
        stored = run.path / "recipe.yaml"
        if stored.exists():
            if not resume and run.has_checkpoint():
                raise ValueError(f"{path}: holds a run already; resume it (--resume) or choose another directory")
            if resume and with_root(run.recipe(), recipe.data.root or "") != with_root(recipe, recipe.data.root or ""):
                raise ValueError(f"{path}: was started with another recipe; resume it without changes")
        elif resume:
            raise ValueError(f"{path}: no run to resume here (no recipe.yaml)")
        if write:
            run.path.mkdir(parents=True, exist_ok=True)
            if not resume:
                run.write_json("env.json", environment())
                run.rewrite_metrics([])
            if not resume or run.recipe() != recipe:
                write_text(stored, dump(recipe))
        return run

    def recipe(self) -> Recipe:
        """The recipe the run was started with. Raises ValueError if there is none."""
        path = self.path / "recipe.yaml"
        try:
            raw = read_yaml(read_text(path))
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: cannot read the run's recipe ({in_one_line(error)})") from None
        if not isinstance(raw, dict):
            raise ValueError(f"{path}: cannot read the run's recipe (it is no mapping of keys)")
        return parse(raw, str(path))

    def checkpoint(self, name: str) -> Path:
        return checkpoint_path(self.path, name)

    def has_checkpoint(self) -> bool:
        return self.checkpoint("last").exists()

    def finished(self) -> bool:
        """Whether training and all stages are done."""
        if not (self.path / "summary.json").exists():
            return False
        return len(self.read_json("summary.json").get("stages_done", ())) == len(self.recipe().stages)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep other processes out of the directory. Raises ValueError if one is in it.

        The lock is the system's, on the directory itself: it ends with the process, however that ends, and leaves no file.
        """
        try:
            import fcntl
        except ImportError:  # not on this system
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDONLY)
        _held.add(handle)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"{self.path}: another process is at work in this directory; choose another") from None
            except OSError:  # a file system without locks
                pass
            yield
        finally:
            if handle in _held:
                _held.remove(handle)
                os.close(handle)
            with contextlib.suppress(OSError):
                self.path.rmdir()  # if nothing was written there

    @contextlib.contextmanager
    def reporter(self, recipe: Recipe, task: Task, sizes: str, quiet: bool) -> Iterator[RunReporter]:
        """What writes metrics.csv and tells the user (bars on a terminal, lines elsewhere) and TensorBoard.

        sizes: of the model and the images, in words, for the line that it begins with.
        """
        reporter = RunReporter(self, recipe.train.epochs, task.scores, quiet)
        plan = recipe.train
        device = "GPU" if plan.accelerator != "cpu" and torch.cuda.is_available() else "CPU"
        threads = f"{_count(plan.devices, 'process', 'es')} of " * (plan.devices > 1)
        threads += _count(torch.get_num_threads(), "thread")
        reporter.say(
            f"{recipe.name}, seed {recipe.seed}: {sizes}; {_count(plan.epochs, 'epoch')} on the {device}, {threads}, "
            f"{precision_for(plan)}; into {self.path}"
        )
        if plan.warmup != plan.warmup_epochs:
            reporter.say(f"warm-up over {plan.warmup:g} of {_count(plan.epochs, 'epoch')}, not {plan.warmup_epochs:g}")
        try:
            yield reporter
        finally:
            reporter.close()


def open_run(path: str | Path) -> tuple[Path, Recipe | None]:
    """A model file and, where that is known, the recipe it was trained with (see ``recipe_beside``).

    ``path`` is a model file or a run directory. Raises ValueError if it is neither.
    """
    file = model_file(path)
    return file, recipe_beside(file)


def recipe_beside(file: Path | None) -> Recipe | None:
    """The recipe of the run directory that a model file lies in, or NAME.recipe.yaml beside a file NAME.safetensors that was
    taken out of its run; None if there is neither."""
    if file is None:
        return None
    kept = file.with_name(f"{file.name.partition('.')[0]}.recipe.yaml")
    if kept.exists():
        return load_recipe(kept)
    return RunDirectory(file.parent).recipe() if (file.parent / "recipe.yaml").exists() else None


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


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _count(number: int, word: str, plural: str = "s") -> str:
    return f"{number} {word}{plural if number != 1 else ''}"


class RunReporter(Reporter):
    """metrics.csv, progress on the terminal and scalars for TensorBoard."""

    def __init__(self, run: RunDirectory, epochs: int, scores: tuple[Score, ...], quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self.run, self.epochs, self.scores, self.quiet = run, epochs, scores, quiet
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        live = self.console.is_terminal and not quiet
        self.bar = (
            Progress(*columns, TextColumn("{task.fields[note]}"), console=self.console, transient=True)
            if live
            else None
        )
        self.task: Any = None
        self.writer: Any = None
        self.at = self.steps = self.began_step = 0
        self.began = self.told = time.monotonic()
        if self.bar:
            self.bar.start()

    def say(self, words: str) -> None:
        """A line, as it is."""
        self.console.print(words, markup=False, soft_wrap=True)

    def history(self, rows: list[dict[str, Any]]) -> None:
        self.run.rewrite_metrics(rows)

    def epoch(self, epoch: int, steps: int, done: int) -> None:
        self._task(f"epoch {epoch}/{self.epochs}", steps, done)
        self.at, self.steps, self.began_step = epoch, steps, done
        self.began = self.told = time.monotonic()

    def step(self, done: int, loss: float) -> None:
        if self.bar:
            self.bar.update(self.task, completed=done, note=f"loss {loss:.4f}")
        elif time.monotonic() - self.told > QUIET_SECONDS:
            self.told = time.monotonic()
            each = (self.told - self.began) / max(done - self.began_step, 1)
            left = each * (self.steps * (self.epochs - self.at + 1) - done)
            self.say(
                f"epoch {self.at:>3}/{self.epochs}  step {done:,} of {self.steps:,}  loss {loss:.4f}  about {_time(left)} left"
            )

    def testing(self, total: int) -> None:
        self._task("test set", total, 0)

    def tested(self, count: int) -> None:
        if self.bar:
            self.bar.advance(self.task, count)

    def resumed(self, epoch: int, step: int) -> None:
        self.say(f"resumed after epoch {epoch}" + (f", step {step}" if step else ""))

    def epoch_done(self, row: dict[str, Any]) -> None:
        self.run.log(row)
        if self.writer is None and not self.quiet and importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            with contextlib.suppress(UnicodeEncodeError):  # TensorBoard takes no name that is not UTF-8
                self.writer = SummaryWriter(str(self.run.path / "tensorboard"))
        if self.writer is not None:
            for key, value in row.items():
                if value is not None and key != "epoch":
                    self.writer.add_scalar(key, value, row["epoch"])
        parts = [f"epoch {row['epoch']:>3}/{self.epochs}"]
        if row["train_loss"] is not None:
            parts.append(f"loss {row['train_loss']:.4f}")
        for part in ("train", "validation"):
            for score in self.scores:
                value = row[f"{part}_{score.name}"]
                if value is not None:
                    name = "" if score is self.scores[0] else f" {score.name}"
                    parts.append(f"{part}{name} {score.text(value)}")
        self.say("  ".join([*parts, f"{row['seconds']:.0f} s"]))

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
