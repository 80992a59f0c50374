"""How far a classifier of images can be fooled, and whether the figure can be trusted."""

from saccade.robust.attacks import ATTACKS, Attack, Attacked, Search, Threat, attack
from saccade.robust.evaluate import PRESETS, evaluate
from saccade.robust.gradients import MODES, backward
from saccade.robust.masking import Check, masking_report
from saccade.robust.victim import Victim

__all__ = [
    "ATTACKS",
    "MODES",
    "PRESETS",
    "Attack",
    "Attacked",
    "Check",
    "Search",
    "Threat",
    "Victim",
    "attack",
    "backward",
    "evaluate",
    "masking_report",
]
