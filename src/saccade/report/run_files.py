"""The files of a run directory, read and written."""

from __future__ import annotations

import csv
import io
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Write aside, then rename: a reader never sees half a file, a full disk leaves the old one."""
    aside = path.with_name(path.name + ".part")
    try:
        aside.write_text(text, encoding="utf-8", errors="backslashreplace")  # names of files may be no text
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class RunFiles:
    """A run directory as files: JSON records, and metrics.csv with a row an epoch."""

    path: Path

    def write_json(self, name: str, value: Any) -> None:
        write_text(self.path / name, json.dumps(value, indent=1) + "\n")

    def read_json(self, name: str) -> dict[str, Any]:
        """One of the run's JSON files. Raises ValueError naming it if it is missing or damaged."""
        path = self.path / name
        try:
            value = json.loads(path.read_text())
        except FileNotFoundError:
            raise ValueError(f"{self.path}: holds no finished run (no {name})") from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not valid JSON ({error})") from None
        if not isinstance(value, dict):
            raise ValueError(f"{path}: not what saccade writes (expected an object)")
        return value

    def read_arrays(self, name: str) -> dict[str, Any]:
        """The arrays of one of the run's .npz files. Raises ValueError naming it if it is damaged."""
        import numpy as np

        path = self.path / name
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of headers, which NumPy parses as Python
                with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                    return {key: file[key] for key in file.files}
        except Exception as error:  # of archives, headers, tokens
            raise ValueError(f"{path}: not readable ({' '.join(str(error).split())[:150]})") from None

    def metrics(self) -> list[dict[str, float | None]]:
        """The rows of metrics.csv; empty cells are None. Raises ValueError naming the file if it is damaged."""
        path = self.path / "metrics.csv"
        try:
            with path.open(newline="") as file:
                return [{k: float(cell) if cell else None for k, cell in row.items()} for row in csv.DictReader(file)]
        except (OSError, ValueError, TypeError, AttributeError, csv.Error) as error:
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


def _csv(rows: list[dict[str, Any]], header: bool) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n", extrasaction="ignore")
    if header:
        writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)
    return out.getvalue()
