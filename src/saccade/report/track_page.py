"""A target followed, on one page: the events of each window, the box, its way, the map of scores, under a slider."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.report import figures
from saccade.report.pages import render
from saccade.report.run_files import write_text

DIGITS = 3


def write_track_page(
    path: str | Path,
    pictures: Sequence[NDArray[np.uint8]],
    rows: Sequence[Mapping[str, Any]],
    size: tuple[int, int],
    title: str,
    facts: str,
) -> Path:
    """Write a page that needs no network.

    pictures: of each window, uint8 ``[h, w, 3]``. rows: of each window ``window, start_us, stop_us, events, score, held,
    latency_ms, box`` (left, top, width, height in pixels of the sensor), ``region`` (likewise, or None), ``scores`` (a map of
    numbers in [0, 1], or None). size: height and width of the sensor, pixels. Raises ValueError for no windows.
    """
    if not rows or len(rows) != len(pictures):
        raise ValueError(f"{path}: {len(pictures)} pictures of {len(rows)} windows make no page")
    steps = [_rounded({**row, "image": _inline(picture)}) for row, picture in zip(rows, pictures, strict=True)]
    times = [row["stop_us"] / 1e3 for row in rows]
    panels = [
        figures.lines({"score": (times, [row["score"] for row in rows])}, "ms", "score"),
        figures.lines({"latency": (times, [row["latency_ms"] for row in rows])}, "ms", "latency of a window, ms"),
    ]
    height, width = size
    lasting = (rows[-1]["stop_us"] - rows[0]["start_us"]) / 1e3 / len(rows)
    target = Path(path)
    page = render(
        "track.html",
        title=title,
        facts=facts,
        steps=steps,
        truth=any(row.get("truth") for row in rows),
        height=height,
        width=width,
        line=max(min(height, width) / 200, 0.5),
        pause=int(min(max(lasting, 40), 200)),
        figures=panels,
    )
    write_text(target, page + "\n")
    return target


def _inline(picture: NDArray[np.uint8]) -> str:
    """As a PNG of few colours inside the page."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(picture).quantize(64).save(out, format="PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return round(value, DIGITS) if isinstance(value, float) else value
