"""The last polarity of each pixel."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from saccade.events.representations.base import REPRESENTATIONS, Events, Representation, State, kernel, last_of


@dataclass(frozen=True)
class EventFrame(Representation):
    """1 in the channel of the polarity of a pixel's last event in the window, 0 in the other; 0 in both without an event."""

    high: ClassVar[float | None] = 1.0

    @property
    def channels(self) -> tuple[str, ...]:
        return "off", "on"

    def window(
        self, events: Events, start_us: int, stop_us: int, height: int, width: int, state: State
    ) -> tuple[Tensor, State]:
        frame = events.t.new_zeros(2 * height * width).float()
        last = last_of(events.place)
        frame[events.p[last] * (height * width) + events.place[last]] = 1
        return frame.view(2, height, width), state

    def native(self, recording: Any, state: State) -> int:
        return kernel("last_polarity_frames")(recording)


REPRESENTATIONS.register("event_frame", EventFrame())
