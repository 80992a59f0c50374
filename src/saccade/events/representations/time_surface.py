"""How long ago the last event was."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from saccade.events.representations.base import REPRESENTATIONS, Events, Representation, State, kernel, last_of

NEVER = torch.iinfo(torch.int64).min


@dataclass(frozen=True)
class TimeSurface(Representation):
    """``exp(-(stop - t_last) / tau)`` of the last event of each pixel and polarity up to the window's end; 0 where none was.

    The last events of earlier windows stay: a frame carries on from the frames before it. Source: Lagorce et al. (2017), HOTS,
    over the whole sensor at the end of each window.
    """

    high: ClassVar[float | None] = 1.0
    whole: ClassVar[bool] = False
    carries: ClassVar[bool] = True
    tau_us: Annotated[float, Field(gt=0)] = 50_000.0

    @property
    def channels(self) -> tuple[str, ...]:
        return "off", "on"

    def rest(self, height: int, width: int) -> State:
        return {"last": torch.full((2, height, width), NEVER)}

    def window(
        self, events: Events, start_us: int, stop_us: int, height: int, width: int, state: State
    ) -> tuple[Tensor, State]:
        place = events.p * (height * width) + events.place
        chosen = last_of(place)
        last = state["last"].flatten().clone()
        last[place[chosen]] = events.t[chosen]
        age = (stop_us - last).float().masked_fill(last == NEVER, torch.inf)
        return (age / -self.tau_us).exp().view(2, height, width), {"last": last.view(2, height, width)}

    def native(self, recording: Any, state: State) -> int:
        return kernel("time_surface_frames")(recording, state["last"].data_ptr(), self.tau_us)


REPRESENTATIONS.register("time_surface", TimeSurface())
