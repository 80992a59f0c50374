"""The smallest change that fools, measured by its Euclidean length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from saccade.robust.attacks.base import ATTACKS, Attack, Search
from saccade.robust.losses import margin


@dataclass(frozen=True)
class CW(Attack):
    """Carlini and Wagner (2017), L2: Adam on ``|x' - x|^2 + c max(z_y - max z_j, -kappa)`` in tanh space, c as given.

    Its changes are not bounded one by one. What counts here is what it finds after projection into the threat's ball, so under
    such a bound it is a weak attack; give an eps of the whole range to have its own measure.
    """

    steps: Annotated[int, Field(ge=1)] = 50
    c: Annotated[float, Field(gt=0)] = 1.0
    kappa: Annotated[float, Field(ge=0)] = 0.0
    rate: Annotated[float, Field(gt=0)] = 0.01

    def search(self, s: Search) -> None:
        low, wide = s.threat.low, s.threat.high - s.threat.low
        x0, y = s.x0, s.y
        whole = s.active
        inside = ((x0 - low) / wide * 2 - 1).clamp(-1 + 1e-6, 1 - 1e-6)
        w = torch.atanh(inside)
        first, second = torch.zeros_like(w), torch.zeros_like(w)
        for k in range(1, self.steps + 1):
            x = (torch.tanh(w) + 1) / 2 * wide + low
            s.active = whole
            _, _, g = s.victim.gradient(x, y, self._gain)
            inside = s.threat.project(x, x0)
            s.offer(inside, s.victim.logits(inside))
            slope = (2 * (x - x0) - self.c * g) * (1 - torch.tanh(w).square()) * wide / 2
            first = 0.9 * first + 0.1 * slope
            second = 0.999 * second + 0.001 * slope.square()
            w = w - self.rate * (first / (1 - 0.9**k)) / ((second / (1 - 0.999**k)).sqrt() + 1e-8)
        s.again()

    def _gain(self, logits: Tensor, y: Tensor) -> Tensor:
        return margin(logits, y).clamp(max=self.kappa)


ATTACKS.register("cw", CW())
