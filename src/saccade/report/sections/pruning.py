"""What the stage "natural_pruning" found."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from saccade.report.pages import render
from saccade.report.run_files import RunFiles
from saccade.report.sections.base import section


@section("pruning.json")
def pruning_section(run: RunFiles, summary: dict[str, Any]) -> Markup:
    """Shortcuts, what became of them, and what their removal changed."""
    record = run.read_json("pruning.json")
    keys = ("shortcuts", "measured", "test", "parameters")
    return render("sections/pruning.html", **{key: record[key] for key in keys})
