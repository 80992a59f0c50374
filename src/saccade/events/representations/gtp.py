"""Global trajectory prompt: counts of both polarities, and a trace of where events began."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from saccade.events.representations.base import REPRESENTATIONS, Events, Representation, State, counts, kernel


@dataclass(frozen=True)
class GlobalTrajectoryPrompt(Representation):
    """Channels (trajectory, off, on), whole numbers from 0 to 255: the order in which SDTrack's network reads them.

    With n_off and n_on the events of a pixel in window i: ``off = min(255, alpha n_off)``, ``on = min(255, alpha n_on)``,
    ``h_i = min(255, beta h_{i-1} + alpha sum over both polarities of [none in window i - 1, some in window i])``, and h = 0 in
    the first window; the trajectory is h, rounded down where a frame is made, exact in the recursion. A frame carries on from
    the frames before it. Source: Shan et al. (2025), SDTrack.

    Unlike the program behind the published frames, windows are half-open, rows and columns 0 count, and no event is dropped at
    the edge of a window. Several frames a window (T > 1) are finer windows: ``stamps`` with ``parts``.
    """

    high: ClassVar[float | None] = 255.0
    carries: ClassVar[bool] = True
    alpha: Annotated[float, Field(ge=1)] = 30.0
    beta: Annotated[float, Field(ge=0, le=1)] = 0.8

    @property
    def channels(self) -> tuple[str, ...]:
        return "trajectory", "off", "on"

    def rest(self, height: int, width: int) -> State:
        """The trajectory, and the counts of the window before: ones, so that nothing begins in the first one; at most 255."""
        return {
            "trajectory": torch.zeros(height, width, dtype=torch.float64),
            "before": torch.ones(2, height, width, dtype=torch.uint8),
        }

    def window(
        self, events: Events, start_us: int, stop_us: int, height: int, width: int, state: State
    ) -> tuple[Tensor, State]:
        plane = height * width
        count = counts(events.p * plane + events.place, 2 * plane).view(2, height, width)
        fresh = ((count > 0) & (state["before"] == 0)).sum(0).double()
        trajectory = (self.beta * state["trajectory"] + self.alpha * fresh).clamp(max=255)
        frame = torch.cat([trajectory[None], (self.alpha * count.float()).clamp(max=255)]).floor().float()
        return frame, {"trajectory": trajectory, "before": count.clamp(max=255).to(torch.uint8)}

    def native(self, recording: Any, state: State) -> int:
        scratch = torch.zeros_like(state["before"])
        addresses = [part.data_ptr() for part in (state["trajectory"], state["before"], scratch)]
        return kernel("trajectory_frames")(recording, self.alpha, self.beta, *addresses)


REPRESENTATIONS.register("gtp", GlobalTrajectoryPrompt())
