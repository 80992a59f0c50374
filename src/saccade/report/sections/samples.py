"""What the stage "samples" kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from saccade.report import figures
from saccade.report.html import text
from saccade.report.run_files import RunFiles
from saccade.report.sections.base import section

SHOWN_LAYERS = 6


@section("samples.npz")
def samples_section(run: RunFiles, summary: dict[str, Any]) -> str:
    """Test images, what the network says of them, and its spikes. Raises ValueError for a damaged file."""
    arrays = run.read_arrays("samples.npz")
    layers = [key for key in arrays if key.startswith("raster/")]
    if len(layers) > SHOWN_LAYERS:
        layers = [layers[i] for i in np.linspace(0, len(layers) - 1, SHOWN_LAYERS).round().astype(int)]
    parts = []
    samples = zip(arrays["images"], arrays["targets"], arrays["outputs"], strict=True)
    for i, (pixels, target, output) in enumerate(samples):
        plots = "".join(
            f"<figure>{figures.raster(arrays[key][i])}<figcaption>{text(key.removeprefix('raster/'))}</figcaption></figure>"
            for key in layers
        )
        parts.append(
            f'<div class="sample"><div>{figures.picture(pixels)}<p>{_caption(target, output, summary["classes"])}</p></div>'
            f'<div class="rasters">{plots}</div></div>'
        )
    note = "Test images with truth and prediction, and the spikes of up to 64 evenly spaced neurons a layer; a column a step."
    return f'<h2>Samples and their spikes</h2><p class="muted">{note}</p><div class="panel">{"".join(parts)}</div>'


def _caption(target: np.ndarray, output: np.ndarray, classes: list[str]) -> str:
    if not classes:
        return f"{_numbers(target)}<br>{_numbers(output)}"
    guess = int(np.argmax(output))
    chances = np.exp(output - output.max())
    mark = "good" if guess == target else "bad"
    verdict = f"{text(classes[guess])} {chances[guess] / chances.sum():.0%}"
    return f'{text(classes[int(target)])}<br><span class="{mark}">{verdict}</span>'


def _numbers(values: np.ndarray, most: int = 8) -> str:
    flat = np.atleast_1d(values).ravel()
    return text(", ".join(f"{value:.3g}" for value in flat[:most]) + (", ..." if len(flat) > most else ""))
