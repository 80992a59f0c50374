"""What the stage "entropy" found."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from saccade.report import figures
from saccade.report.pages import render
from saccade.report.run_files import RunFiles
from saccade.report.sections.base import section


@section("entropy.json")
def entropy_section(run: RunFiles, summary: dict[str, Any]) -> Markup:
    """Bits of queries, keys and values."""
    found = run.read_json("entropy.json")
    parts = found["parts"]
    names, bits = [part["path"] for part in parts], [part["bits"] for part in parts]
    what = "the sum over steps" if found["over_time"] else "the value of a step"
    return render("sections/entropy.html", what=what, bars=figures.bars(names, {"bits": bits}, "entropy, bits"))
