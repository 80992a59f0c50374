"""What stands still, shown for several steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saccade.deploy.engine import Native
from saccade.deploy.lowering import Lowering
from saccade.deploy.program import Stateless, Wire
from saccade.deploy.values import Integers


@dataclass(frozen=True)
class Hold(Stateless):
    """What is the same in all steps, shown for ``steps`` of them: for what mixes time."""

    name = "hold"
    mixes_time = True
    steps: int

    def made(self, *given: Wire) -> Wire:
        if type(self.steps) is not int or not 1 <= self.steps <= 1 << 16:
            raise ValueError(f"{self.steps} steps")
        return given[0]

    def compute(self, *given: Integers) -> Integers:
        return np.broadcast_to(given[0], (self.steps, *given[0].shape[1:]))

    def native(self) -> Native:
        return Native("hold")


def held(low: Lowering, wire: int, steps: int) -> int:
    """The wire with as many steps as are run."""
    return wire if low.timed[wire] else low.emit(Hold((wire,), steps))
