"""What the stage "attention" found."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from saccade.report import figures
from saccade.report.heat import heat
from saccade.report.pages import render
from saccade.report.run_files import RunFiles
from saccade.report.sections.base import section


@section("attention.npz")
def attention_section(run: RunFiles, summary: dict[str, Any]) -> Markup:
    """Where attentions look in one image, and how far over several. Raises ValueError for a damaged file."""
    arrays, record = run.read_arrays("attention.npz"), run.read_json("attention.json")
    image = arrays["image"]
    rows = [
        {"path": path, **stats, "maps": [figures.picture(heat(image, arrays[f"{kind}/{path}"]), 120) for kind in KINDS]}
        for path, stats in record["attentions"].items()
    ]
    return render("sections/attention.html", image=figures.picture(image, 120), rows=rows, images=record["images"])


KINDS = ("given", "middle")
