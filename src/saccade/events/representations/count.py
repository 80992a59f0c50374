"""Counts of events by polarity."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from saccade.events.representations.base import REPRESENTATIONS, Events, Representation, State, counts, kernel


@dataclass(frozen=True)
class Count(Representation):
    """How many events of each polarity a pixel had: 0, 1, 2, ..., neither clipped nor scaled (Fang et al. 2021)."""

    @property
    def channels(self) -> tuple[str, ...]:
        return "off", "on"

    def window(
        self, events: Events, start_us: int, stop_us: int, height: int, width: int, state: State
    ) -> tuple[Tensor, State]:
        plane = height * width
        return counts(events.p * plane + events.place, 2 * plane).float().view(2, height, width), state

    def native(self, recording: Any, state: State) -> int:
        return kernel("count_frames")(recording, False)


REPRESENTATIONS.register("count", Count())
