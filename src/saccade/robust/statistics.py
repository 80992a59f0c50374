"""What an attack does inside a network: spikes that it flips, potentials that lie near their thresholds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from saccade.graph.observe import outputs
from saccade.neurons import LIF, Spiking, recording

EDGES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5)  # of distances from a threshold
BAND = 0.25  # around a threshold, in its units: neurons within it are near


def flip_rate(model: nn.Module, x: Tensor, x_adv: Tensor) -> dict[str, float]:
    """Share of the outputs of each layer of neurons, over steps, samples and neurons, that differ between images ``[N, ...]``
    and those of an attack, by path. Raises ValueError for images of different shapes."""
    return {path: float(flipped.float().mean()) for path, flipped in flips(model, x, x_adv).items()}


def flips(model: nn.Module, x: Tensor, x_adv: Tensor) -> dict[str, Tensor]:
    """Which outputs of each layer of neurons differ between images ``[N, ...]`` and those of an attack: bool ``[T, N, ...]``
    by path. Raises ValueError for images of different shapes."""
    if x.shape != x_adv.shape:
        raise ValueError(f"images {list(x.shape)} and attacked ones {list(x_adv.shape)} differ in shape")
    found = []
    for images in (x, x_adv):
        with torch.no_grad(), outputs(model, lambda path, module: isinstance(module, Spiking)) as given:
            model(images)
        found.append(given)
    return {path: torch.cat(ys) != torch.cat(found[1][path]) for path, ys in found[0].items()}


def distances(model: nn.Module, potentials: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    """``u - v_th`` of the LIF neurons among recorded potentials (``neurons.recording``), ``[T, N, ...]`` by path."""
    found = {}
    for path, module in model.named_modules():
        if isinstance(module, LIF) and potentials.get(path):
            v_th: Any = module._config.v_th
            u = torch.cat([p.detach().float() for p in potentials[path]])
            if module._buffers["v_th"] is not None:
                v_th = module.by_channel(module.get_buffer("v_th"), u)
            found[path] = u - v_th
    return found


def near_threshold_fraction(model: nn.Module, x: Tensor, band: float = BAND) -> dict[str, float]:
    """Share of the potentials of each layer of LIF neurons, over steps, samples and neurons, within ``band`` of the threshold
    on images ``[N, ...]``, by path."""
    return {path: float((d.abs() < band).float().mean()) for path, d in _distances_of(model, x).items()}


def flips_by_distance(
    model: nn.Module, x: Tensor, x_adv: Tensor, edges: Sequence[float] = EDGES
) -> dict[str, dict[str, list[float]]]:
    """How often spikes flip, by how far their potential was from its threshold, ``|u - v_th|`` between ``edges``.

    Of each layer of LIF neurons by path: ``count`` of neurons and steps, ``flipped`` the share whose spike differs under
    attack, and ``theory`` the mean of ``Phi(-|d| / s)``: what a normal change of each potential, of the layer's own root mean
    square s, would flip (Wang et al. 2026, threshold guarding, from notes). Empty intervals have NaN.
    """
    clean, attacked = _distances_of(model, x), _distances_of(model, x_adv)
    found = {}
    for path, d in clean.items():
        moved = attacked[path]
        flipped, size = ((d >= 0) != (moved >= 0)).float(), (moved - d).square().mean().sqrt().clamp(min=1e-12)
        theory = torch.special.ndtr(-d.abs() / size)
        rows: dict[str, list[float]] = {"count": [], "flipped": [], "theory": []}
        for low, high in itertools.pairwise(edges):
            inside = (d.abs() >= low) & (d.abs() < high)
            rows["count"].append(int(inside.sum()))
            rows["flipped"].append(float(flipped[inside].mean()))
            rows["theory"].append(float(theory[inside].mean()))
        found[path] = rows
    return found


def _distances_of(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    with torch.no_grad(), recording(model) as potentials:
        model(x)
    return distances(model, potentials)
