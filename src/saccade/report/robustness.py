"""A leaderboard: the evaluations of a folder on one page, the figures that nobody should trust marked as such."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from saccade.report.pages import render
from saccade.report.run_files import write_text


class Rate(BaseModel):
    """A share of all samples, with its interval of 95 %."""

    right: int = Field(ge=0)
    accuracy: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)


class Attacked(Rate):
    success: float = Field(ge=0, le=1)
    forwards_per_image: float = Field(ge=0)
    gradients_per_image: float = Field(ge=0)


class Threat(BaseModel):
    norm: Literal["linf"]
    eps: float = Field(ge=0)
    low: float
    high: float


class Alarm(BaseModel):
    name: str
    alarm: bool
    words: str


class About(BaseModel):
    """Where an evaluation comes from."""

    name: str = ""
    data: str = ""
    saccade: str = ""
    commit: str | None = None
    started: str = ""


class Evaluation(BaseModel):
    """What ``saccade attack --out`` keeps under ``summary``: the format of the leaderboard."""

    format: Literal["saccade-robustness-1"]
    model: str
    samples: int = Field(ge=1)
    threat: Threat
    clean: Rate
    attacks: dict[str, Attacked]
    worst: Rate
    masking: list[Alarm] | None
    about: About = About()


def read_evaluation(path: str | Path) -> Evaluation:
    """An evaluation from its file. Raises ValueError, in one line, for anything else, and one that was not finished."""
    try:
        record: Any = json.loads(Path(path).read_text(encoding="utf-8"))
        if isinstance(record, dict) and "summary" not in record and "key" in record:
            raise ValueError(f"{path}: the evaluation was not finished; give its command again to go on")
        found = Evaluation.model_validate(record.get("summary", record))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}: no evaluation of saccade: {where}: {first['msg']}") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: no evaluation of saccade ({type(error).__name__})") from None
    if any(row.right > found.clean.right for row in (found.worst, *found.attacks.values())):
        raise ValueError(f"{path}: more are right after an attack than before it")
    return found


def write_leaderboard(folder: str | Path) -> Path:
    """Write ``leaderboard.html`` into a folder from its ``*.json``; returns its path.

    Entries of one threat and data set stand in one table, the most robust first; one with an alarm, or without the report,
    comes after all others. Raises ValueError for a folder without evaluations, and for a file that is none.
    """
    entries = [(path.stem, read_evaluation(path)) for path in sorted(Path(folder).glob("*.json"))]
    if not entries:
        raise ValueError(f"{folder}: holds no evaluations (*.json of saccade attack --out)")
    tables: dict[tuple[str, float], list[tuple[str, Evaluation]]] = {}
    for name, entry in entries:
        tables.setdefault((entry.about.data, round(entry.threat.eps, 6)), []).append((name, entry))
    shown = []
    for (data, eps), rows in sorted(tables.items()):
        rows.sort(key=lambda row: (_doubts(row[1]) != [], -row[1].worst.accuracy))
        columns = list(dict.fromkeys(attack for _, entry in rows for attack in entry.attacks))
        listed = [{"name": entry.about.name or name, "entry": entry, "doubts": _doubts(entry)} for name, entry in rows]
        shown.append({"data": data or "data not named", "eps": eps, "columns": columns, "rows": listed})
    target = Path(folder) / "leaderboard.html"
    write_text(target, render("leaderboard.html", title="Robustness", tables=shown) + "\n")
    return target


def _doubts(entry: Evaluation) -> list[str]:
    """Why a figure is not to be trusted."""
    if entry.masking is None:
        return ["evaluated without the report on masked gradients"]
    return [check.words for check in entry.masking if check.alarm]
