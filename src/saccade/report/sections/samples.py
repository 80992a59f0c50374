"""What the stage "samples" kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from saccade.report import figures
from saccade.report.pages import render
from saccade.report.run_files import RunFiles
from saccade.report.sections.base import section

SHOWN_LAYERS = 6


@section("samples.npz")
def samples_section(run: RunFiles, summary: dict[str, Any]) -> Markup:
    """Test images, what the network says of them, and its spikes. Raises ValueError for a damaged file."""
    arrays = run.read_arrays("samples.npz")
    layers = [key for key in arrays if key.startswith("raster/")]
    if len(layers) > SHOWN_LAYERS:
        layers = [layers[i] for i in np.linspace(0, len(layers) - 1, SHOWN_LAYERS).round().astype(int)]
    samples = [
        {
            "picture": figures.picture(pixels),
            "rasters": [(key.removeprefix("raster/"), figures.raster(arrays[key][i])) for key in layers],
            **_caption(target, output, summary["classes"]),
        }
        for i, (pixels, target, output) in enumerate(
            zip(arrays["images"], arrays["targets"], arrays["outputs"], strict=True)
        )
    ]
    return render("sections/samples.html", samples=samples)


def _caption(target: np.ndarray, output: np.ndarray, classes: list[str]) -> dict[str, Any]:
    """The truth, what the network says, and whether it is right (None where there are no classes)."""
    if not classes:
        return {"truth": _numbers(target), "guess": _numbers(output), "right": None}
    guess = int(np.argmax(output))
    chances = np.exp(output - output.max())
    words = f"{classes[guess]} {chances[guess] / chances.sum():.0%}"
    return {"truth": classes[int(target)], "guess": words, "right": guess == int(target)}


def _numbers(values: np.ndarray, most: int = 8) -> str:
    flat = np.atleast_1d(values).ravel()
    return ", ".join(f"{value:.3g}" for value in flat[:most]) + (", ..." if len(flat) > most else "")
