"""Whether there was an event."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from saccade.events.representations.base import REPRESENTATIONS, Events, Representation, State, kernel


@dataclass(frozen=True)
class Binary(Representation):
    """1 where a pixel had an event of the polarity, else 0: of windows of equal duration, spikes [T, 2, H, W]."""

    high: ClassVar[float | None] = 1.0

    @property
    def channels(self) -> tuple[str, ...]:
        return "off", "on"

    def window(
        self, events: Events, start_us: int, stop_us: int, height: int, width: int, state: State
    ) -> tuple[Tensor, State]:
        frame = events.t.new_zeros(2 * height * width).float()
        frame[events.p * (height * width) + events.place] = 1
        return frame.view(2, height, width), state

    def native(self, recording: Any, state: State) -> int:
        return kernel("count_frames")(recording, True)


REPRESENTATIONS.register("binary", Binary())
