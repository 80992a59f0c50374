"""The stage "attention": where the attentions of a network look in a test image, and how far on the mean of some."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from saccade.data import Splits, batches
from saccade.experiment.stages.base import STAGES, Finished, StageConfig
from saccade.measure import attention_maps, attention_stats
from saccade.models import SpikingModel


@dataclass(frozen=True)
class AttentionLooks(StageConfig):
    """attention.npz: a test image (number ``image``), and for each attention what its places get and what the middle one gets.

    Arrays: ``image`` uint8 ``[C, H, W]``, and for every path ``given/PATH`` and ``middle/PATH``, ``[h, w]`` (see
    ``map_pair``). attention.json: ``measure.attention_stats`` over the first ``count`` test images, with radius ``r``.
    """

    image: Annotated[int, Field(ge=0)] = 0
    count: Annotated[int, Field(ge=1)] = 16
    r: Annotated[int, Field(ge=0)] = 2

    def check(self, recipe: Any, model: SpikingModel, splits: Splits) -> None:
        if self.image >= len(splits.test):
            raise ValueError(f"attention: there is no image {self.image} among {len(splits.test)} test images")
        if splits.test.sequences:
            raise ValueError("attention: draws over static images, and these are sequences")
        attention_maps(model, _images(splits, [self.image]), most=1)

    def run(self, finished: Finished) -> dict[str, Any]:
        model, splits = finished.model, finished.splits
        device = next(model.parameters()).device
        x = _images(splits, [self.image])
        arrays = {"image": (x[0] * 255).round().to(torch.uint8).numpy()}
        for path, (given, middle) in map_pairs(model, x.to(device)).items():
            arrays |= {f"given/{path}": given, f"middle/{path}": middle}
        aside = finished.run.path / "attention.part.npz"
        np.savez_compressed(aside, **arrays)  # type: ignore[arg-type]
        aside.replace(finished.run.path / "attention.npz")
        several = _images(splits, range(min(self.count, len(splits.test)))).to(device)
        stats = {path: one.to_json() for path, one in attention_stats(model, several, self.r).items()}
        finished.run.write_json("attention.json", {"images": len(several), "attentions": stats})
        return {}


def map_pairs(model: nn.Module, x: Tensor) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of every attention by path, for the first sample of ``x``: how much each place gives to the others on the mean, and how
    much to the middle one, ``[h, w]`` (see ``measure.attention_maps``). Raises ValueError for a model without attention.
    """
    found = {}
    for path, maps in attention_maps(model, x, most=1 << 16).items():
        height, width = maps.weights.shape[-2:]
        middle = maps.weights[0, height // 2 * width + width // 2]
        found[path] = maps.weights[0].mean(0).numpy(), middle.numpy()
    return found


def _images(splits: Splits, numbers: Any) -> Tensor:
    part = splits.test.subset(list(numbers))
    return next(iter(batches(part, len(part), seed=None)))[0]


STAGES.register("attention", AttentionLooks())
