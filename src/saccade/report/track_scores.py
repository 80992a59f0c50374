"""Trackers compared on one page: a table of scores and the curves that they were read off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from saccade.report import figures
from saccade.report.pages import render
from saccade.report.run_files import write_text

AXES = {
    "success": "overlap above",
    "precision": "distance of middles at most, pixels",
    "normalized precision": "distance of middles at most, sizes of the true box",
}


class Curve(BaseModel):
    thresholds: list[float] = Field(min_length=1)
    rates: list[float] = Field(min_length=1)


class TrackerScores(BaseModel):
    numbers: dict[str, float] = Field(min_length=1)
    curves: dict[str, Curve]


class ScoreFile(BaseModel):
    """What ``saccade track eval --out`` keeps. numbers in percent; rates in [0, 1]."""

    format: str = Field(pattern="^saccade-track-scores-1$")
    protocol: str
    rule: str
    sequences: int = Field(ge=1)
    frames: int = Field(ge=1)
    trackers: dict[str, TrackerScores] = Field(min_length=1)
    notes: list[str] = []


def write_track_scores(folder: str | Path) -> Path:
    """Write ``report.html`` into a folder from its ``scores.json``; returns its path. Raises ValueError without such a file."""
    source = Path(folder) / "scores.json"
    try:
        record = ScoreFile.model_validate(json.loads(source.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ValueError(f"{folder}: holds no scores of trackers (no scores.json)") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{source}: not what saccade writes ({where}: {first['msg']})") from None
    except ValueError as error:
        raise ValueError(f"{source}: not what saccade writes ({error})") from None
    columns = list(next(iter(record.trackers.values())).numbers)
    order = sorted(record.trackers, key=lambda name: -record.trackers[name].numbers.get(columns[0], 0.0))
    panels = [_panel(record, order, kind) for kind in AXES]
    values: dict[str, Any] = {
        "title": "Trackers",
        "record": record,
        "columns": columns,
        "rows": [(name, record.trackers[name].numbers) for name in order],
        "panels": [panel for panel in panels if panel],
    }
    target = Path(folder) / "report.html"
    write_text(target, render("track_scores.html", **values) + "\n")
    return target


def _panel(record: ScoreFile, order: list[str], kind: str) -> Any:
    first = {"success": ("AUC", "AO"), "precision": ("PR",), "normalized precision": ("NPR",)}[kind]
    series = {}
    for name in order:
        own = record.trackers[name]
        if kind in own.curves:
            said = next((f" [{own.numbers[key]:.1f}]" for key in first if key in own.numbers), "")
            series[name + said] = (own.curves[kind].thresholds, [100 * rate for rate in own.curves[kind].rates])
    return figures.lines(series, AXES[kind], f"{kind}, % of frames") if series else None
