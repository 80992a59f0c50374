"""The page of ``saccade robust look``: what an attack does, in pictures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from markupsafe import Markup

from saccade.report import figures
from saccade.report.heat import heat
from saccade.report.pages import render

LAYERS = 8  # that are drawn


def look_page(name: str, found: dict[str, Any]) -> str:
    """HTML of what ``saccade.robust.looks.look`` found."""
    shown = found["shown"]
    image, attacked = _bytes(shown["image"]), _bytes(shown["attacked"])
    change = _bytes(0.5 + 10 * (shown["attacked"] - shown["image"]))
    pictures = {
        f"image {shown['number']}, class {shown['right']}": image,
        "attacked": attacked,
        "ten times the change": change,
    }
    maps = [
        {"path": path, "drawn": figures.picture(heat(image, share, 120), 120), "most": float(share.max())}
        for path, share in list(shown["maps"].items())[:LAYERS]
    ]
    return str(
        render(
            "robust_look.html",
            title=f"Attacks on {name}",
            name=name,
            samples=found["samples"],
            eps=found["eps"],
            pictures=[{"drawn": figures.picture(drawn, 160), "words": words} for words, drawn in pictures.items()],
            maps=maps,
            over_eps=_over_eps(found),
            over_budget=_over_budget(found),
            surface=_surface(found),
            flips=_flips(found["flips"], found["edges"]),
        )
    )


def _bytes(pixels: np.ndarray) -> np.ndarray:
    """uint8 of values in [0, 1]; of a picture of two channels their mean."""
    values = pixels if len(pixels) in (1, 3) else pixels.mean(0, keepdims=True)
    found: np.ndarray = (values * 255).round().clip(0, 255).astype(np.uint8)
    return found


def _over_eps(found: dict[str, Any]) -> Markup:
    across = [255 * eps for eps in found["epsilons"]]
    series = {attack: (across, [100 * share for share in shares]) for attack, shares in found["over_eps"].items()}
    return figures.lines(series, "eps, 1/255 of the range", "right, %", size=(5.4, 3.2))


def _over_budget(found: dict[str, Any]) -> Markup:
    figure, axes = figures.new_figure(5.4, 3.2)
    gradients, shares = zip(*found["over_budget"], strict=True)
    axes.plot(gradients, [100 * s for s in shares], color=figures.BLUE, marker="o")
    if min(gradients) > 0:
        axes.set_xscale("log")
        axes.set_xticks(gradients, [f"{g:.3g}" for g in gradients])
        axes.minorticks_off()
    return _labelled(figure, axes, "gradients an image (mean)", "right, %", False)


def _surface(found: dict[str, Any]) -> Markup:
    figure, axes = figures.new_figure(5.4, 4.0)
    axes.grid(False)
    margins, edge = found["surface"], found["offsets"]
    drawn = axes.pcolormesh(edge, edge, margins, cmap="viridis", shading="nearest")
    if margins.min() < 0 < margins.max():
        axes.contour(edge, edge, margins, levels=[0.0], colors="white", linewidths=1.4)
    bar = figure.colorbar(drawn, ax=axes)
    bar.ax.tick_params(colors=figures.INK, labelsize=8)
    return _labelled(figure, axes, "random signs, in eps", "signs of the gradient, in eps", False)


def _flips(layers: dict[str, dict[str, list[float]]], edges: Sequence[float]) -> Markup:
    figure, axes = figures.new_figure(5.4, 4.0)
    for colour, (path, rows) in zip(figures.CYCLE, list(layers.items())[:LAYERS], strict=False):
        at = range(len(rows["flipped"]))
        axes.plot(at, [100 * share for share in rows["flipped"]], color=colour, marker="o", markersize=3.5, label=path)
        axes.plot(at, [100 * share for share in rows["theory"]], color=colour, linestyle=(0, (4, 3)), linewidth=1)
    axes.set_xticks(range(len(edges) - 1), [f"{a:g}–{b:g}" for a, b in pairwise(edges)], rotation=40, fontsize=8)
    if not layers:
        axes.text(0.5, 0.5, "no LIF neurons", ha="center", color=figures.INK, transform=axes.transAxes)
    return _labelled(figure, axes, "|u − v_th|", "flipped, %", bool(layers))


def _labelled(figure: Any, axes: Any, x: str, y: str, legend: bool) -> Markup:
    axes.set_xlabel(x, fontsize=9, color=figures.INK)
    axes.set_ylabel(y, fontsize=9, color=figures.INK)
    if legend:
        axes.legend(fontsize=8, frameon=False, labelcolor=figures.INK)
    return figures.as_svg(figure)
