"""Images that fool another model, tried on this one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

from saccade.robust.attacks.base import Attack, Search
from saccade.robust.attacks.pgd import PGD
from saccade.robust.victim import Victim


@dataclass(frozen=True)
class Transfer(Attack):
    """An attack on ``source`` (a model in eval mode that was trained for the same), whose images are shown to the victim.

    It has no name of its own, as a recipe cannot hold a model; Papernot et al. (2016).
    """

    gradient_free: ClassVar[bool] = True
    source: Any = None
    attack: Attack = field(default_factory=lambda: PGD(steps=20))

    def search(self, s: Search) -> None:
        if not isinstance(self.source, nn.Module):
            raise ValueError(f"a transfer needs a model to attack in the victim's stead, got {self.source!r}")
        source = Victim(self.source)
        with source.open():
            other = Search(source, s.x0, s.y, s.threat, s.generator)
            self.attack.search(other)
        s.offer(other.best, s.victim.logits(other.best))
