"""The report's figures, as SVG. Matplotlib draws; it is imported only here and only when a figure is made."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from saccade.optional import need

INK, MUTED, GRID = "#1f2933", "#7b8794", "#e4e7eb"
ON_PALE = "#1f2934"  # ink on a field that is pale on dark pages too
BLUE, ORANGE, GREEN, VIOLET = "#2563eb", "#ea7317", "#0f9d77", "#7c3aed"
CYCLE = (BLUE, ORANGE, GREEN, VIOLET, "#d6336c", "#0c8599", "#846358", "#5c940d")

Rows = Sequence[dict[str, float | None]]


def new_figure(width: float, height: float) -> tuple[Any, Any]:
    figure = need("matplotlib.figure", "train").Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
    axes.tick_params(colors=INK, labelsize=9, length=3)
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def as_svg(figure: Any) -> Markup:
    import matplotlib as mpl
    import matplotlib.text

    out = io.StringIO()
    for label in figure.findobj(mpl.text.Text):
        label.set_parse_math(False)  # a name with dollars in it is a name
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "saccade", "font.family": "sans-serif"}):
        figure.savefig(
            out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")), transparent=True
        )
    text = out.getvalue()
    for colour, name in ((INK, "ink"), (MUTED, "muted"), (GRID, "line")):
        text = text.replace(colour, f"var(--{name}, {colour})")  # the page's, light or dark
    return Markup(text[text.index("<svg") :])


def _points(rows: Rows, key: str, scale: float = 1.0) -> tuple[list[float], list[float]]:
    kept = [(row["epoch"], row[key]) for row in rows if row.get(key) is not None]
    return [float(e) for e, _ in kept if e is not None], [float(v) * scale for _, v in kept if v is not None]


def curves(rows: Rows, keys: dict[str, str], label: str, chosen: int | None = None, percent: bool = False) -> Markup:
    """Columns of metrics.csv over epochs; ``keys`` maps columns to legends, ``chosen`` marks an epoch."""
    figure, axes = new_figure(5.4, 3.0)
    for colour, (key, legend) in zip(CYCLE * 4, keys.items(), strict=False):
        x, y = _points(rows, key, 100.0 if percent else 1.0)
        axes.plot(x, y, color=colour, linewidth=1.8, label=legend, marker="o" if len(x) < 12 else None, markersize=3.5)
    if chosen is not None:
        axes.axvline(chosen, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label=f"chosen: epoch {chosen}")
    axes.set_xlabel("epoch", fontsize=9, color=INK)
    axes.set_ylabel(label, fontsize=9, color=INK)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=8, frameon=False, labelcolor=INK)
    return as_svg(figure)


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    across: str,
    up: str,
    size: tuple[float, float] = (5.4, 3.4),
) -> Markup:
    """A line for each series of numbers ``(x, y)``, named in a legend in their order; ``across``, ``up``: what the axes are."""
    figure, axes = new_figure(*size)
    for i, (legend, (x, y)) in enumerate(series.items()):
        style = ("-", "--", ":", "-.")[i // len(CYCLE) % 4]
        axes.plot(x, y, color=CYCLE[i % len(CYCLE)], linestyle=style, linewidth=1.6, label=legend)
    axes.set_xlabel(across, fontsize=9, color=INK)
    axes.set_ylabel(up, fontsize=9, color=INK)
    axes.set_ylim(bottom=0)
    if len(series) > 1:
        axes.legend(fontsize=8, frameon=False, labelcolor=INK)
    return as_svg(figure)


def confusion(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Markup:
    """Confusion matrix, rows the truth, shaded by the share of the row."""
    table = np.asarray(counts, dtype=float)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    count = len(classes)
    side = min(0.46 * count + 1.6, 9.0)
    figure, axes = new_figure(side + 0.6, side)
    axes.grid(False)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if count <= 20:
        for i in range(count):
            for j in range(count):
                if table[i, j]:
                    shade = "white" if shares[i, j] > 0.55 else ON_PALE
                    axes.text(j, i, f"{int(table[i, j])}", ha="center", va="center", fontsize=7.5, color=shade)
        axes.set_xticks(range(count), classes, rotation=45 if max(map(len, classes)) > 2 else 0, ha="center")
        axes.set_yticks(range(count), classes)
    axes.set_xlabel("predicted", fontsize=9, color=INK)
    axes.set_ylabel("truth", fontsize=9, color=INK)
    return as_svg(figure)


def bars(names: Sequence[str], parts: dict[str, Sequence[float]], label: str) -> Markup:
    """Horizontal stacked bars, the first name on top."""
    figure, axes = new_figure(7.6, 0.24 * len(names) + 0.9)
    axes.grid(False, axis="y")
    at = np.arange(len(names))
    left = np.zeros(len(names))
    for colour, (legend, values) in zip(CYCLE, parts.items(), strict=False):
        axes.barh(at, values, left=left, color=colour, height=0.72, label=legend)
        left += np.asarray(values)
    axes.set_yticks(at, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(label, fontsize=9, color=INK)
    axes.margins(y=0.01)
    if len(parts) > 1:
        axes.legend(fontsize=8, frameon=False, labelcolor=INK, loc="lower right")
    return as_svg(figure)


def score_over_bytes(
    series: dict[str, Sequence[tuple[float, float]]],
    names: Sequence[str] = (),
    joined: bool = True,
    label: str = "accuracy",
    percent: bool = True,
) -> Markup:
    """A score (in %, if ``percent``) over size in 10^3 bytes (log scale), a line a series of ``(bytes, score)``.

    ``names``: of the points of the only series, written beside them. ``joined``: lines between the points of a series.
    """
    from matplotlib.ticker import ScalarFormatter

    figure, axes = new_figure(7.6, 4.2)
    for i, (legend, points) in enumerate(series.items()):
        x, y = [size / 1e3 for size, _ in points], [(100 if percent else 1) * score for _, score in points]
        line = "-" if joined else ""
        marker = "os^Dv<>P"[i // len(CYCLE) % 8]
        axes.plot(
            x, y, marker=marker, linestyle=line, color=CYCLE[i % len(CYCLE)], linewidth=1.4, markersize=5, label=legend
        )
        for name, a, b in zip(names, x, y, strict=False):
            axes.annotate(name, (a, b), textcoords="offset points", xytext=(6, 5), fontsize=8, color=INK)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(ScalarFormatter())
    axes.tick_params(axis="x", which="both", labelsize=8)
    axes.margins(x=0.12, y=0.12)
    axes.set_xlabel("kB (10^3 bytes)", fontsize=9, color=INK)
    axes.set_ylabel(f"{label}, %" if percent else label, fontsize=9, color=INK)
    if len(series) > 1:
        axes.legend(fontsize=8, frameon=False, labelcolor=INK)
    return as_svg(figure)


def raster(steps: np.ndarray) -> Markup:
    """A dot for each spike of ``[T, neurons]`` zeros and ones: time to the right, neurons upwards."""
    T, count = steps.shape
    width, height = 14 * T, 1.6 * count
    dots = "".join(
        f'<rect x="{14 * t + 2}" y="{height - 1.6 * (n + 1):.1f}" width="10" height="1.3"/>'
        for t, n in np.argwhere(steps)
    )
    grid = "".join(
        f'<path d="M{14 * t} 0V{height:.0f}" stroke="var(--line, {GRID})" stroke-width="1"/>' for t in range(T + 1)
    )
    size = f'viewBox="0 0 {width} {height:.0f}" width="{width}" height="{height:.0f}"'
    return Markup(f'<svg {size} xmlns="http://www.w3.org/2000/svg">{grid}<g fill="{BLUE}">{dots}</g></svg>')


def picture(pixels: np.ndarray, side: int = 96) -> Markup:
    """uint8 ``[C, H, W]`` (one or three channels) as an inline PNG, enlarged without smoothing."""
    import base64

    from PIL import Image

    if pixels.shape[0] not in (1, 3):
        return Markup()
    image = Image.fromarray(pixels[0] if pixels.shape[0] == 1 else pixels.transpose(1, 2, 0))
    out = io.BytesIO()
    image.save(out, format="PNG")
    data = base64.b64encode(out.getvalue()).decode()
    size = f'width="{side}" height="{side}" style="image-rendering:pixelated"'
    return Markup(f'<img alt="sample" {size} src="data:image/png;base64,{data}">')
