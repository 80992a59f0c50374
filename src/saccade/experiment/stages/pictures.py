"""The stage "pictures": test images with the truth and with what the network says drawn into them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from saccade.data import Splits, batches
from saccade.experiment.stages.base import STAGES, Finished, StageConfig
from saccade.models import SpikingModel


@dataclass(frozen=True)
class Pictures(StageConfig):
    """pictures.npz: the first ``count`` test images as ``images``, ``truth`` and ``found``, uint8 ``[n, 3, H, W]``."""

    count: Annotated[int, Field(ge=1)] = 6

    def check(self, recipe: Any, model: SpikingModel, splits: Splits) -> None:
        if splits.test.shape[0] != 3 or splits.test.sequences:
            raise ValueError("pictures: draws into colour images, and these are others")
        recipe.task.build(model, splits.test.classes).drawn(*self._run(model, splits, 1))

    def run(self, finished: Finished) -> dict[str, Any]:
        x, output, y = self._run(finished.model, finished.splits, self.count)
        truth, found = finished.task.drawn(x, output, y)
        aside = finished.run.path / "pictures.part.npz"
        np.savez_compressed(aside, images=_bytes(x), truth=_bytes(truth), found=_bytes(found))
        aside.replace(finished.run.path / "pictures.npz")
        return {}

    @staticmethod
    def _run(model: SpikingModel, splits: Splits, count: int) -> tuple[Tensor, Tensor, Tensor]:
        part = splits.test.subset(range(min(count, len(splits.test))))
        x, y = next(iter(batches(part, len(part), seed=None)))
        device, training = next(model.parameters()).device, model.training
        with torch.inference_mode():
            output = model.eval()(x.to(device), steps=True).float().cpu()
        model.train(training)
        return x, output, y


def _bytes(images: Tensor) -> np.ndarray:
    pixels: np.ndarray = (images.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return pixels


STAGES.register("pictures", Pictures())
