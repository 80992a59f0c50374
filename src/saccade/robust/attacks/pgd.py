"""Steps along the sign of the gradient, back into the ball after each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from saccade.robust.attacks.base import ATTACKS, Attack, Search
from saccade.robust.losses import cross_entropy, dlr, margin

LOSSES = {"ce": cross_entropy, "dlr": dlr, "margin": margin}


@dataclass(frozen=True)
class PGD(Attack):
    """Projected gradient ascent with signs, the best iterate kept. Madry et al. (2018).

    step: of eps (None: 2.5 / steps, by which every point of the ball is reached). random: from a random point of the ball;
    without it and with step 1 / steps this is BIM, Kurakin et al. (2017). momentum: MI-FGSM, of gradients divided by their mean
    size, Dong et al. (2018).
    """

    steps: Annotated[int, Field(ge=1)] = 40
    step: float | None = None
    random: bool = True
    restarts: Annotated[int, Field(ge=1)] = 1
    momentum: Annotated[float, Field(ge=0)] = 0.0
    loss: Literal["ce", "dlr", "margin"] = "ce"

    def search(self, s: Search) -> None:
        size = s.threat.eps * (2.5 / self.steps if self.step is None else self.step)
        for _ in range(self.restarts):
            s.again()
            x = s.start(self.random)
            memory = x * 0
            for _ in range(self.steps):
                if not len(x):
                    break
                logits, _, g = s.gradient(x, LOSSES[self.loss])
                keep = s.offer(x, logits)
                x, g, memory = x[keep], g[keep], memory[keep]
                if self.momentum:
                    mean = g.abs().flatten(1).mean(1).clamp(min=1e-30).view(-1, *[1] * (g.dim() - 1))
                    g = memory = self.momentum * memory + g / mean
                x = s.project(x + size * g.sign())
            if len(x):
                s.offer(x, s.victim.logits(x))


ATTACKS.register("pgd", PGD())
ATTACKS.register("pgd7", PGD(steps=7, step=0.01 / (8 / 255)))
ATTACKS.register("pgd10", PGD(steps=10))
ATTACKS.register("pgd20", PGD(steps=20))
ATTACKS.register("pgd100", PGD(steps=100))
ATTACKS.register("bim", PGD(steps=10, step=0.1, random=False))
ATTACKS.register("mifgsm", PGD(steps=10, step=0.1, random=False, momentum=1.0))
