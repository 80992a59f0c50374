"""Making a trained network smaller."""

from saccade.compress.natural import (
    ShortcutRecord,
    compare_logits,
    measure_shortcuts,
    natural_pruning,
    remove_shortcuts,
    shortcuts,
    silent_shortcuts,
)

__all__ = [
    "ShortcutRecord",
    "compare_logits",
    "measure_shortcuts",
    "natural_pruning",
    "remove_shortcuts",
    "shortcuts",
    "silent_shortcuts",
]
