"""Putting a run directory on one page."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from saccade.report import figures
from saccade.report.pages import render, score_text
from saccade.report.run_files import RunFiles, write_text
from saccade.report.sections import SECTIONS


def write_report(directory: str | Path) -> Path:
    """Write ``report.html`` into a run directory from the files in it, and return its path.

    Needs ``summary.json`` and ``metrics.csv``; every other file that has a section (``saccade.report.section``) adds it.
    Raises ValueError if the directory holds no finished run, or if one of its files cannot be read.
    """
    run = RunFiles(Path(directory))
    summary, rows = run.read_json("summary.json"), run.metrics()
    with _as_it_is_written(run.path / "summary.json"):
        values = {
            "title": f"{summary['recipe']}, seed {summary['seed']}",
            "summary": summary,
            "cards": _cards(summary),
            "learning": _learning(summary, rows),
            "confusion": figures.confusion(summary["confusion"], summary["classes"]) if "confusion" in summary else "",
            "rates": _rates(rows),
        }
    sections = []
    for file, make in SECTIONS.items():
        if (run.path / file).exists():
            with _as_it_is_written(run.path / file):
                sections.append(make(run, summary))
    details = [
        (name, (run.path / name).read_text(encoding="utf-8", errors="replace"))
        for name in ("recipe.yaml", "env.json")
        if (run.path / name).exists()
    ]
    target = run.path / "report.html"
    with _as_it_is_written(run.path / "summary.json"):
        page = render("run.html", sections=sections, details=details, **values)
    write_text(target, page + "\n")
    return target


@contextlib.contextmanager
def _as_it_is_written(file: Path) -> Iterator[None]:
    """Raises ValueError, naming the file, for one that does not hold what we write there."""
    try:
        yield
    except (KeyError, TypeError, IndexError, AttributeError, jinja2.TemplateError, ArithmeticError) as error:
        raise ValueError(f"{file}: not what saccade writes ({type(error).__name__}: {error})") from None
    except ValueError as error:
        known = str(error).startswith(str(file))  # it says so itself
        raise ValueError(str(error) if known else f"{file}: not what saccade writes ({error})") from None


def _cards(summary: dict[str, Any]) -> list[tuple[str, str]]:
    epoch = f"validation, epoch {summary['chosen_epoch']} of {summary['epochs']} ({summary['chosen_by']})"
    tested = f"{summary['images']['test']:,} test images, scored once"
    cards: list[tuple[str, str]] = []
    for score in summary["scores"]:
        name = score["name"]
        of = f"{summary['test_correct']:,} of " if name == "accuracy" and "test_correct" in summary else f"{name} on "
        cards.append((score_text(summary[f"test_{name}"], score), of + tested))
        cards.append(
            (score_text(summary[f"validation_{name}"], score), epoch if len(cards) == 1 else f"{name}, {epoch}")
        )
    cost = summary.get("profile")
    if cost:
        cards += [
            (f"{cost['spikes_per_neuron']:.3f}", "spikes per neuron and image, over all steps"),
            (f"{cost['spikes_per_image']:,.0f}", "spikes per image"),
            (_energy(cost["energy_standard_uj"]), "per image, convention “standard”"),
            (_energy(cost["energy_orrc_uj"]), "per image, convention “orrc”"),
        ]
    seconds = summary["training_seconds"]
    cards.append((f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.0f} s", "training time"))
    return cards


def _energy(microjoules: float) -> str:
    return f"{microjoules / 1000:.3g} mJ" if microjoules >= 1000 else f"{microjoules:.3g} µJ"


def _learning(summary: dict[str, Any], rows: list[dict[str, float | None]]) -> list[Markup]:
    chosen = summary["chosen_epoch"]
    panels = [figures.curves(rows, {"train_loss": "training", "validation_loss": "validation"}, "loss", chosen)]
    for score in summary["scores"]:
        name, percent = score["name"], score["percent"]
        keys = {f"train_{name}": "training (augmented)", f"validation_{name}": "validation"}
        panels.append(figures.curves(rows, keys, f"{name}, %" if percent else name, chosen, percent=percent))
    return panels


def _rates(rows: list[dict[str, float | None]]) -> str:
    keys = [key for key in (rows[0] if rows else {}) if key.startswith("rate/")]
    if not keys:
        return ""
    legends = {key: key.removeprefix("rate/").removesuffix(".neuron") for key in keys}
    return figures.curves(rows, legends, "rate")
