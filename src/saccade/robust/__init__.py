"""How far a classifier of images can be fooled, and whether the figure can be trusted."""

from saccade.robust.attacks import ATTACKS, Attack, Attacked, Search, Threat, attack
from saccade.robust.gradients import MODES, backward
from saccade.robust.victim import Victim

__all__ = ["ATTACKS", "MODES", "Attack", "Attacked", "Search", "Threat", "Victim", "attack", "backward"]
