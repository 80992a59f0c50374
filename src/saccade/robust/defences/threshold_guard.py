"""Threshold guarding: potentials are pushed away from their thresholds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from saccade.neurons import LIF
from saccade.train.ingredients import INGREDIENTS, Ingredient, TrainingStep

POTENTIALS, REDUCTIONS = ("before", "after"), ("mean", "neurons")


@dataclass(frozen=True)
class ThresholdGuard(Ingredient):
    """Adds ``weight * sum_layers mean max(0, delta - |u - v_th|)``: no potential within ``delta`` of its threshold is free.

    The weight grows from 0 to ``weight`` along half a cosine. What the paper leaves open, and our choice first: potential:
    "before" the reset or "after" it (where a neuron that fired lies at its reset potential, so that nothing is pushed above);
    reduction: the "mean" over steps, samples and neurons of a layer, or the sum over "neurons" of the mean over steps and
    samples. The penalised potential has no noise; the read-out, which does not fire, is left out.
    Source: Wang et al. (2026), Threshold Guarding Optimization, arXiv 2602.20548, whose body was not public to us: from notes.
    """

    wants_potentials: ClassVar[bool] = True
    weight: float = 0.4
    delta: float = 0.5
    potential: str = "before"
    reduction: str = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.weight >= 0 or not self.delta > 0:
            raise ValueError(f"weight is at least 0 and delta above it, got {self.weight} and {self.delta}")
        if self.potential not in POTENTIALS or self.reduction not in REDUCTIONS:
            raise ValueError(f"potential is one of {POTENTIALS}, reduction one of {REDUCTIONS}")

    def check(self, model: Any, task: Any) -> None:
        if not any(isinstance(module, LIF) for module in model.modules()):
            raise ValueError("the model has no LIF neurons, whose potentials it could keep from their thresholds")

    def loss(self, step: TrainingStep) -> Tensor | float:
        assert step.potentials is not None
        total: Tensor | float = 0.0
        for path, potentials in step.potentials.items():
            neuron = step.model.get_submodule(path)
            if isinstance(neuron, LIF):
                for u in potentials:
                    total = total + self.penalty(neuron, u)
        return self.weight * ramp(step.progress) * total

    def penalty(self, neuron: LIF, u: Tensor) -> Tensor:
        """Of the potentials ``[T, N, ...]`` of one layer before their resets."""
        c = neuron._config
        v_th: Any = c.v_th
        if neuron._buffers["v_th"] is not None:
            v_th = neuron.by_channel(neuron.get_buffer("v_th"), u)
        if self.potential == "after" and c.reset != "none":
            fired = (u >= v_th).to(u.dtype)
            u = u * (1 - fired) + c.v_reset * fired if c.reset == "hard" else u - v_th * fired
        inside = (self.delta - (u - v_th).abs()).clamp(min=0)
        return inside.mean() if self.reduction == "mean" else inside.mean((0, 1)).sum()


def ramp(progress: float) -> float:
    """From 0 to 1 along half a cosine."""
    return (1 - math.cos(math.pi * min(max(progress, 0.0), 1.0))) / 2


@dataclass(frozen=True)
class FlipPenalty(Ingredient):
    """A smooth cousin of the guard: adds the share of potentials that normal distributions, fitted to each channel and step,
    have within ``band`` of the threshold: ``weight * mean over channels and steps of Phi((m + band)/s) - Phi((m - band)/s)``,
    m and s of ``u - v_th``, averaged over layers. Source: MPD-SGR (2025), arXiv 2511.12199, from notes.
    """

    wants_potentials: ClassVar[bool] = True
    weight: float = 0.1
    band: float = 0.5

    def check(self, model: Any, task: Any) -> None:
        if not any(isinstance(module, LIF) for module in model.modules()):
            raise ValueError("the model has no LIF neurons, whose potentials it could keep from their thresholds")

    def loss(self, step: TrainingStep) -> Tensor | float:
        assert step.potentials is not None
        found = []
        for path, potentials in step.potentials.items():
            neuron = step.model.get_submodule(path)
            if isinstance(neuron, LIF):
                v_th: Any = neuron._config.v_th
                axis = neuron.channel_axis
                for u in potentials:
                    if neuron._buffers["v_th"] is not None:
                        v_th = neuron.by_channel(neuron.get_buffer("v_th"), u)
                    distance = (u - v_th).transpose(1, axis).flatten(2)  # [T, C, places and samples]
                    found.append(share_within(distance.mean(2), distance.std(2), self.band).mean())
        return self.weight * torch.stack(found).mean() if found else 0.0


def share_within(mean: Tensor, deviation: Tensor, band: float) -> Tensor:
    """Of normal distributions, within ``band`` of zero."""
    scale = deviation.clamp(min=1e-6) * math.sqrt(2)
    return (torch.erf((mean + band) / scale) - torch.erf((mean - band) / scale)) / 2


INGREDIENTS.register("threshold_guard", ThresholdGuard())
INGREDIENTS.register("mpd_sgr", FlipPenalty())
