"""The stage "samples": a few test images, what the network says of them, and its spikes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from saccade.data import batches
from saccade.experiment.stages.base import STAGES, Finished, StageConfig
from saccade.graph import observe


@dataclass(frozen=True)
class Samples(StageConfig):
    """samples.npz: ``count`` test images, one a class first, with their predictions and the rasters of some neurons.

    Arrays: ``images`` uint8 ``[n, C, H, W]`` (the middle step of a sequence), ``targets`` ``[n, ...]``, ``outputs``
    ``[n, ...]`` (read out over time), and for every neuron layer ``raster/PATH`` uint8 ``[n, T, neurons]``: the steps of up to
    ``neurons`` evenly spaced ones.
    """

    count: Annotated[int, Field(ge=1)] = 8
    neurons: Annotated[int, Field(ge=1)] = 64

    def run(self, finished: Finished) -> dict[str, Any]:
        model, test = finished.model, finished.splits.test
        chosen = torch.arange(len(test))
        if test.classes:
            chosen = torch.argsort(_occurrence(test.targets), stable=True)
        part = test.subset(chosen[: self.count].tolist())
        x, y = next(iter(batches(part, self.count, seed=None)))
        device = next(model.parameters()).device
        rasters: dict[str, np.ndarray] = {}

        def keep(path: str, module: nn.Module, args: tuple[Any, ...], spikes: Tensor) -> None:
            flat = spikes.detach().flatten(2).transpose(0, 1)
            picked = torch.linspace(0, flat.shape[-1] - 1, min(self.neurons, flat.shape[-1])).long()
            rasters[f"raster/{path}"] = (flat[..., picked.to(flat.device)] != 0).to(torch.uint8).cpu().numpy()

        with torch.inference_mode(), observe(model, _shown, keep):
            outputs = model(x.to(device)).float().cpu().numpy()
        shown = x[len(x) // 2] if test.sequences else x
        images = (shown / shown.amax().clamp(min=1.0) * 255).round().to(torch.uint8).numpy()
        aside = finished.run.path / "samples.part.npz"
        np.savez_compressed(aside, images=images, targets=y.numpy(), outputs=outputs, **rasters)  # type: ignore[arg-type]
        aside.replace(finished.run.path / "samples.npz")
        return {}


def _shown(path: str, module: nn.Module) -> bool:
    return hasattr(module, "levels") and getattr(module, "role", "") != "gate"


def _occurrence(labels: Tensor) -> Tensor:
    """How many earlier items have the same label: sorting by it takes one of every class first."""
    seen: dict[int, int] = {}
    result = []
    for label in labels.tolist():
        result.append(seen.get(label, 0))
        seen[label] = result[-1] + 1
    return torch.tensor(result)


STAGES.register("samples", Samples())
