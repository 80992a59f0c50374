"""Attacks through gradients of one's choice, and the worst of several."""

from __future__ import annotations

from dataclasses import dataclass, field

from saccade.neurons import ATan, Rectangle, Sigmoid, Surrogate, Triangle
from saccade.robust.attacks.apgd import APGD
from saccade.robust.attacks.base import ATTACKS, Attack, Search
from saccade.robust.attacks.pgd import PGD
from saccade.robust.attacks.sa_pgd import SAPGD
from saccade.robust.gradients import acts_on, backward


@dataclass(frozen=True)
class Through(Attack):
    """An attack whose gradients pass neurons in another way, see ``robust.backward``. A model without neurons on which the mode
    acts is attacked with its own gradients."""

    mode: str = "bptt"
    surrogate: Surrogate | None = None
    attack: Attack = field(default_factory=lambda: PGD(steps=20))

    def search(self, s: Search) -> None:
        if not acts_on(s.victim.model, self.mode):
            self.attack.search(s)
            return
        if self.mode != "conversion":
            drop = s.drop
            s.drop = drop and self.mode != "assg"  # whose slopes follow each sample
            with backward(s.victim.model, self.mode, self.surrogate):
                self.attack.search(s)
            s.drop = drop
            return
        # answers of the converted network prove nothing: what it finds is offered to the spiking one
        before = s.active
        other = Search(s.victim, s.x0, s.y, s.threat, s.generator)
        with backward(s.victim.model, "conversion"):
            self.attack.search(other)
        s.active = before
        s.offer(other.best, s.victim.logits(other.best))


@dataclass(frozen=True)
class Ensemble(Attack):
    """Each member on what the ones before left: the worst of them for every sample."""

    members: tuple[Attack, ...] = ()

    def search(self, s: Search) -> None:
        if not self.members:
            raise ValueError("an ensemble has at least one member")
        for member in self.members:
            s.again()
            if not len(s.active):
                return
            member.search(s)


def surrogates(attack: Attack, kinds: tuple[Surrogate, ...]) -> tuple[Attack, ...]:
    return tuple(Through(surrogate=kind, attack=attack) for kind in kinds)


# Wide and narrow ones of different shape; the 19 of the TMLR ensemble (2024) in the forms that this library has
FIVE = (Triangle(1.0), Triangle(0.5), Sigmoid(4.0), ATan(2.0), Rectangle(0.5))
MANY = (
    *(Triangle(width) for width in (0.25, 0.5, 1.0, 2.0, 3.0)),
    *(Rectangle(width / 2) for width in (0.25, 0.5, 1.0, 2.0, 4.0)),
    *(Sigmoid(slope) for slope in (1.0, 2.0, 4.0, 8.0)),
    *(ATan(slope) for slope in (1.0, 2.0, 4.0)),
)
_PGD20 = PGD(steps=20)
ATTACKS.register("bptr", Through(mode="bptr"))
ATTACKS.register("rga", Through(mode="rga"))
ATTACKS.register("hart", Through(mode="hart"))
ATTACKS.register("pdsg", Through(mode="pdsg"))
ATTACKS.register("conversion", Through(mode="conversion"))
ATTACKS.register("assg", Through(mode="assg", attack=SAPGD(steps=50)))
ATTACKS.register("surrogates5", Ensemble(surrogates(_PGD20, FIVE)))
ATTACKS.register(
    "surrogates19", Ensemble((*surrogates(APGD(steps=50), MANY), Through(mode="bptr"), Through(mode="conversion")))
)
