"""One step along the sign of the gradient."""

from __future__ import annotations

from dataclasses import dataclass

from saccade.robust.attacks.base import ATTACKS, Attack, Search


@dataclass(frozen=True)
class FGSM(Attack):
    """``x + eps sign(grad)``. Goodfellow et al. (2015).

    random: first ``eps / 2`` along random signs, then ``eps / 2`` along those of the gradient: R+FGSM of Tramer et al. (2018)
    as the tables of this field have it, which is weaker than FGSM. Other code calls other things by that name.
    """

    random: bool = False

    def search(self, s: Search) -> None:
        x, step = s.start(random=False), s.threat.eps
        if self.random:
            step /= 2
            x = s.project(x + step * s.noise(x).sign())
        logits, _, g = s.gradient(x)
        keep = s.offer(x, logits)
        x, g = x[keep], g[keep]
        if len(x):
            x = s.project(x + step * g.sign())
            s.offer(x, s.victim.logits(x))


ATTACKS.register("fgsm", FGSM())
ATTACKS.register("rfgsm", FGSM(random=True))
