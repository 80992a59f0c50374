"""No attack at all: signs drawn at random. What a model loses to it, it loses to noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from saccade.robust.attacks.base import ATTACKS, Attack, Search


@dataclass(frozen=True)
class RandomSigns(Attack):
    """``x + eps * random signs``, the worst of some."""

    gradient_free: ClassVar[bool] = True
    tries: Annotated[int, Field(ge=1)] = 10

    def search(self, s: Search) -> None:
        for _ in range(self.tries):
            if not len(s.active):
                return
            x = s.project(s.x0 + s.threat.eps * s.noise(s.x0).sign())
            s.offer(x, s.victim.logits(x))


ATTACKS.register("random_signs", RandomSigns())
