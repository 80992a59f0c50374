"""What training tells whoever watches it. This one says nothing."""

from __future__ import annotations

from typing import Any


class Reporter:
    """Called while a run is under way, by the process of rank 0. Rows hold an epoch: its number, learning rate, losses, scores,
    seconds, firing rates; what was not measured is None."""

    def history(self, rows: list[dict[str, Any]]) -> None:
        """All epochs so far: none at the start, those before a checkpoint when a run goes on."""

    def epoch_done(self, row: dict[str, Any]) -> None:
        """Another epoch; number 0 is the untrained network."""

    def resumed(self, epoch: int, step: int) -> None:
        """Training goes on after so many whole epochs and steps of the next."""

    def epoch(self, epoch: int, steps: int, done: int) -> None:
        """An epoch begins, of so many steps, of which some may be done."""

    def step(self, done: int, loss: float) -> None:
        """So many steps of the epoch are done, with this mean loss."""

    def testing(self, total: int) -> None:
        """The test set is scored: so many samples."""

    def tested(self, count: int) -> None:
        """So many more samples are."""
