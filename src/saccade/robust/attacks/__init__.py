"""Attacks, one file each; the registry finds them by name."""

from saccade.plugins import load_files_of
from saccade.robust.attacks.base import ATTACKS, Attack, Attacked, Search, Threat, attack

load_files_of(__name__)

__all__ = ["ATTACKS", "Attack", "Attacked", "Search", "Threat", "attack"]
