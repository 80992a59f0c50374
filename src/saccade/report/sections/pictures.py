"""What the stage "pictures" drew."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from saccade.report import figures
from saccade.report.pages import render
from saccade.report.run_files import RunFiles
from saccade.report.sections.base import section


@section("pictures.npz")
def pictures_section(run: RunFiles, summary: dict[str, Any]) -> Markup:
    """Test images, the truth, and what the network says. Raises ValueError for a damaged file."""
    arrays = run.read_arrays("pictures.npz")
    rows = zip(*(arrays[name] for name in ("images", "truth", "found")), strict=True)
    return render("sections/pictures.html", rows=[[figures.picture(pixels, 192) for pixels in row] for row in rows])
