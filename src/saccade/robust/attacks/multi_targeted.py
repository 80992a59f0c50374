"""Gradient ascent towards every other class in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from saccade.robust.attacks.base import ATTACKS, Attack, Search
from saccade.robust.losses import TowardsClass


@dataclass(frozen=True)
class MultiTargetedPGD(Attack):
    """PGD on ``z_j - z_y`` for each of the ``targets`` classes j of the highest logits in turn, best iterate kept.

    Gowal et al. (2019), MultiTargeted. Tables of this field have an "MTPGD" without a definition; this is our reading of it.
    """

    steps: Annotated[int, Field(ge=1)] = 20
    targets: Annotated[int, Field(ge=1)] = 9

    def search(self, s: Search) -> None:
        size = s.threat.eps * 2.5 / self.steps
        clean = s.victim.logits(s.x0)
        order = clean.scatter(1, s.y[:, None], -float("inf")).argsort(1, descending=True)
        for rank in range(min(self.targets, clean.shape[1] - 1)):
            s.again()
            target = order[s.active, rank]
            x = s.start()
            for _ in range(self.steps):
                if not len(x):
                    break
                logits, _, g = s.gradient(x, TowardsClass(target))
                keep = s.offer(x, logits)
                x, g, target = x[keep], g[keep], target[keep]
                x = s.project(x + size * g.sign())
            if len(x):
                s.offer(x, s.victim.logits(x))


ATTACKS.register("mtpgd", MultiTargetedPGD())
