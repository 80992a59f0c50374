"""The stage "entropy": what queries, keys and values can tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from saccade.data import Splits, image_batches
from saccade.experiment.stages.base import STAGES, Finished, StageConfig
from saccade.layers.attention.base import attention_parts
from saccade.measure import level_entropy
from saccade.models import SpikingModel

if TYPE_CHECKING:
    from saccade.experiment.recipe import Recipe


@dataclass(frozen=True)
class Entropy(StageConfig):
    """entropy.json: how often queries, keys and values take each level, over the first ``images`` test images, and its bits.

    over_time: of their sum over the steps of an image, instead of each step's value.
    """

    images: Annotated[int, Field(ge=1)] = 256
    over_time: bool = False

    def check(self, recipe: Recipe, model: SpikingModel, splits: Splits) -> None:
        if not attention_parts(model):
            raise ValueError("the model has no attention, so no queries, keys and values")

    def run(self, finished: Finished) -> dict[str, Any]:
        batches = image_batches(finished.splits.test, limit=self.images)
        found = level_entropy(finished.model, batches, over_time=self.over_time)
        parts = [
            {"path": path, "bits": one.bits, "mean": one.mean, "counts": [[*pair] for pair in one.counts.items()]}
            for path, one in found.items()
        ]
        finished.run.write_json("entropy.json", {"over_time": self.over_time, "parts": parts})
        by_part: dict[str, list[float]] = {}
        for path, one in found.items():
            by_part.setdefault(path.rpartition(".")[2], []).append(one.bits)
        return {"entropy_bits": {part: sum(bits) / len(bits) for part, bits in by_part.items()}}


STAGES.register("entropy", Entropy())
