"""Polarity spread over bins of time."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from saccade.events.representations.base import REPRESENTATIONS, Events, Representation, State, counts, kernel


@dataclass(frozen=True)
class VoxelGrid(Representation):
    """An event at t adds ``max(0, 1 - |b - t*|)`` to bin b, with ``t* = (bins - 1) (t - start) / (stop - start)``.

    Source: Zhu et al. (2019), Unsupervised Event-based Learning of Optical Flow, Depth, and Egomotion.
    ``polarity``: "signed", one channel a bin, where off events subtract; or "split", channels (off, on) for each bin.
    """

    low: ClassVar[float | None] = None
    whole: ClassVar[bool] = False
    bins: Annotated[int, Field(ge=1, le=1000)] = 5
    polarity: Literal["signed", "split"] = "signed"

    @property
    def channels(self) -> tuple[str, ...]:
        if self.polarity == "signed":
            return tuple(f"bin {b}" for b in range(self.bins))
        return tuple(f"{name} {b}" for b in range(self.bins) for name in ("off", "on"))

    def window(
        self, events: Events, start_us: int, stop_us: int, height: int, width: int, state: State
    ) -> tuple[Tensor, State]:
        plane, split = height * width, self.polarity == "split"
        scale = (self.bins - 1) / (stop_us - start_us) if stop_us > start_us else 0.0
        place = ((events.t - start_us).double() * scale).clamp(0, self.bins - 1)
        bin_ = place.long()
        right = (place - bin_).float()
        sign = torch.ones_like(right) if split else events.p.float() * 2 - 1
        step = 2 * plane if split else plane
        at = bin_ * step + (events.p * plane if split else 0) + events.place
        inside = bin_ + 1 < self.bins
        total = counts(at, self.bins * step, (sign * (1 - right)).double())
        total += counts(at[inside] + step, self.bins * step, (sign * right)[inside].double())
        return total.float().view(len(self.channels), height, width), state

    def native(self, recording: Any, state: State) -> int:
        return kernel("voxel_frames")(recording, self.bins, self.polarity == "split")


REPRESENTATIONS.register("voxel_grid", VoxelGrid())
