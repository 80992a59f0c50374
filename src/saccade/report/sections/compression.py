"""What the stage "prune" found."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from saccade.report import figures
from saccade.report.pages import render
from saccade.report.run_files import RunFiles
from saccade.report.sections.base import section


@section("compression.json")
def compression_section(run: RunFiles, summary: dict[str, Any]) -> Markup:
    """Score over size, step by step."""
    score = summary["scores"][0]
    steps = run.read_json("compression.json")["steps"]
    points = [(step["bytes_file"], step[f"validation_{score['name']}"]) for step in steps]
    names = [step["step"] for step in steps]
    figure = figures.score_over_bytes({"validation": points}, names, label=score["name"], percent=score["percent"])
    kept: dict[str, int] = next((step["kept"] for step in steps if "kept" in step), {})
    channels = ", ".join(f"{name} {count}" for name, count in kept.items())
    return render("sections/compression.html", figure=figure, kept=channels, steps=steps, score=score)
