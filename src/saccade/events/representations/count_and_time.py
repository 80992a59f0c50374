"""Counts, and when the last event was."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from saccade.events.representations.base import REPRESENTATIONS, Events, Representation, State, counts, kernel, last_of


@dataclass(frozen=True)
class CountAndTime(Representation):
    """Counts of both polarities, then the time of each one's last event in the window, ``(t - start) / (stop - start)``.

    Source: Zhu et al. (2018), EV-FlowNet, whose order is on before off; here it is off before on, as everywhere. Without an
    event the time is 0.
    """

    whole: ClassVar[bool] = False

    @property
    def channels(self) -> tuple[str, ...]:
        return "off", "on", "off last", "on last"

    def window(
        self, events: Events, start_us: int, stop_us: int, height: int, width: int, state: State
    ) -> tuple[Tensor, State]:
        plane = height * width
        place = events.p * plane + events.place
        frame = torch.zeros(4 * plane, device=place.device)
        frame[: 2 * plane] = counts(place, 2 * plane).float()
        last = last_of(place)
        span = stop_us - start_us
        if span > 0:
            frame[2 * plane + place[last]] = ((events.t[last] - start_us).double() / span).float()
        return frame.view(4, height, width), state

    def native(self, recording: Any, state: State) -> int:
        return kernel("count_and_time_frames")(recording)


REPRESENTATIONS.register("count_and_time", CountAndTime())
