"""The stage "profile": spikes, operations and energy by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from saccade.data import image_batches
from saccade.experiment.stages.base import STAGES, Finished, StageConfig
from saccade.measure import profile


@dataclass(frozen=True)
class Profile(StageConfig):
    """profile.json: spikes, operations and energy per layer, over the first ``images`` test images."""

    images: Annotated[int, Field(ge=1)] = 256

    def run(self, finished: Finished) -> dict[str, Any]:
        profiled = profile(finished.model, image_batches(finished.splits.test, limit=self.images))
        finished.run.write_json("profile.json", profiled.to_json())
        total = profiled.total()
        return {
            "profile": {
                "images": profiled.samples,
                "spikes_per_image": total.spikes / profiled.samples,
                "spikes_per_neuron": total.spikes_per_neuron,
                "sops_per_image": total.sops / profiled.samples,
                "macs_per_image": total.macs / profiled.samples,
                "energy_standard_uj": profiled.energy("standard").total_pj * 1e-6,
                "energy_orrc_uj": profiled.energy("orrc").total_pj * 1e-6,
                "silent_layers": [row.name for row in profiled.layers if row.silent],
            }
        }


STAGES.register("profile", Profile())
