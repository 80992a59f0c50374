"""A channel that says where the picture is: zeros that a convolution adds around it are zeros there too."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from saccade.deploy.engine import Native
from saccade.deploy.program import Stateless, Wire
from saccade.deploy.values import Integers


@dataclass(frozen=True)
class Mark(Stateless):
    """A map ``[C, H, W]`` with one channel more, which holds ``number`` everywhere.

    What pixels are offset by before they are padded with zeros counts inside the map alone. A convolution has it as weights of
    this channel, and needs no constant for every place.
    """

    name = "mark"
    number: int

    def made(self, *given: Wire) -> Wire:
        channels, height, width = given[0].shape
        low, high = min(given[0].low, self.number), max(given[0].high, self.number)
        return replace(given[0], shape=(channels + 1, height, width), low=low, high=high)

    def compute(self, *given: Integers) -> Integers:
        inside = np.full_like(given[0][:, :, :1], self.number)
        return np.concatenate([given[0], inside], 2)

    def native(self) -> Native:
        return Native("mark", (self.number,))
