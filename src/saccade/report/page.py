"""Putting a run directory on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saccade.report import figures
from saccade.report.html import STYLE, score_text, text
from saccade.report.run_files import RunFiles, write_text
from saccade.report.sections import SECTIONS


def write_report(directory: str | Path) -> Path:
    """Write ``report.html`` into a run directory from the files in it, and return its path.

    Needs ``summary.json`` and ``metrics.csv``; every other file that has a section (``saccade.report.section``) adds it.
    Raises ValueError if the directory holds no finished run, or if one of its files cannot be read.
    """
    run = RunFiles(Path(directory))
    summary, rows = run.read_json("summary.json"), run.metrics()
    try:
        sections = [_head(summary), _cards(summary), _learning(summary, rows), _confusion(summary), _rates(rows)]
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError(
            f"{run.path / 'summary.json'}: not what saccade writes ({type(error).__name__}: {error})"
        ) from None
    for file, make in SECTIONS.items():
        if (run.path / file).exists():
            try:
                sections.append(make(run, summary))
            except (KeyError, TypeError, IndexError) as error:
                words = f"not what saccade writes ({type(error).__name__}: {error})"
                raise ValueError(f"{run.path / file}: {words}") from None
    sections.append(_details(run))
    title = f"{text(summary['recipe'])}, seed {text(summary['seed'])}"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    body = "\n".join(part for part in sections if part)
    page = f'<!doctype html><html lang="en"><head>{head}<style>{STYLE}</style></head><body><main>{body}</main></body></html>'
    target = run.path / "report.html"
    write_text(target, page + "\n")
    return target


def _head(summary: dict[str, Any]) -> str:
    images = summary["images"]
    split = f"{images['train']:,} training, {images['validation']:,} validation, {images['test']:,} test images"
    line = (
        f"{summary['model']}, T = {summary['T']}, {summary['parameters']:,} parameters; {split}; seed {summary['seed']}"
    )
    return f'<h1>{text(summary["recipe"])}</h1><p class="muted">{text(line)}</p>'


def _cards(summary: dict[str, Any]) -> str:
    epoch = f"validation, epoch {summary['chosen_epoch']} of {summary['epochs']} ({summary['chosen_by']})"
    tested = f"{summary['images']['test']:,} test images, scored once"
    cards = []
    for score in summary["scores"]:
        name = score["name"]
        of = f"{summary['test_correct']:,} of " if name == "accuracy" and "test_correct" in summary else f"{name} on "
        cards.append((score_text(score, summary[f"test_{name}"]), of + tested))
        cards.append(
            (score_text(score, summary[f"validation_{name}"]), epoch if len(cards) == 1 else f"{name}, {epoch}")
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
    inner = "".join(f'<div class="card"><b>{text(v)}</b><span>{text(k)}</span></div>' for v, k in cards)
    return f'<div class="cards">{inner}</div>'


def _energy(microjoules: float) -> str:
    return f"{microjoules / 1000:.3g} mJ" if microjoules >= 1000 else f"{microjoules:.3g} µJ"


def _learning(summary: dict[str, Any], rows: list[dict[str, float | None]]) -> str:
    chosen = summary["chosen_epoch"]
    panels = [figures.curves(rows, {"train_loss": "training", "validation_loss": "validation"}, "loss", chosen)]
    for score in summary["scores"]:
        name, percent = score["name"], score["percent"]
        keys = {f"train_{name}": "training (augmented)", f"validation_{name}": "validation"}
        panels.append(figures.curves(rows, keys, f"{name}, %" if percent else name, chosen, percent=percent))
    inner = "".join(f'<div class="panel">{panel}</div>' for panel in panels)
    return f'<h2>Learning</h2><div class="row">{inner}</div>'


def _confusion(summary: dict[str, Any]) -> str:
    if "confusion" not in summary:
        return ""
    figure = figures.confusion(summary["confusion"], summary["classes"])
    return f'<h2>Confusion on the test set</h2><div class="panel">{figure}</div>'


def _rates(rows: list[dict[str, float | None]]) -> str:
    keys = [key for key in (rows[0] if rows else {}) if key.startswith("rate/")]
    if not keys:
        return ""
    legends = {key: key.removeprefix("rate/").removesuffix(".neuron") for key in keys}
    note = "Firing probability per step on the validation images; epoch 0 is the untrained network."
    figure = figures.curves(rows, legends, "rate")
    return f'<h2>Shortcuts and gates</h2><p class="muted">{note}</p><div class="panel">{figure}</div>'


def _details(run: RunFiles) -> str:
    blocks = []
    for name in ("recipe.yaml", "env.json"):
        if (run.path / name).exists():
            content = text((run.path / name).read_text(encoding="utf-8", errors="replace"))
            blocks.append(f"<details><summary>{name}</summary><pre>{content}</pre></details>")
    return "<h2>How it was made</h2>" + "".join(blocks)
