"""What can be wrong with a recording: one line that says where, or a count of what was left out."""

from __future__ import annotations

import warnings
from pathlib import Path

OUTSIDE = "events outside the sensor"
BACKWARD = "events earlier than the one before"
RESERVED = "words of a kind that the format does not have"
NO_BASE = "vectors without a first pixel"
NO_TIME = "events before the first word that says the time"
POLARITY = "events whose polarity is neither 0 nor 1"
UNFINISHED = "unfinished words at the end"
# As the native decoders number them (native/events.h).
NUMBERED = ("", OUTSIDE, BACKWARD, RESERVED, NO_BASE, NO_TIME, POLARITY)


class EventsWarning(UserWarning):
    """What was left out of a recording, or had to be guessed."""


class Faults:
    """Of one file: the first fault is a ValueError, or (``lenient``) faults are counted and said at the end."""

    def __init__(self, path: Path, lenient: bool) -> None:
        self.path, self.lenient = path, lenient
        self.dropped: dict[str, int] = {}
        self.first: dict[str, str] = {}

    def error(self, where: int | str, words: str) -> ValueError:
        """The one line. where: a byte of the file, or a place in words."""
        return ValueError(f"{self.path}: {_place(where)}: {words}")

    def found(self, kind: str, where: int | str, words: str, count: int = 1) -> None:
        """One fault, or several of a kind. Raises ValueError unless lenient."""
        if not self.lenient:
            raise self.error(where, f"{words} (lenient leaves it out)")
        self.count(kind, where, count)

    def count(self, kind: str, where: int | str, count: int = 1) -> None:
        """Left out without asking."""
        if count:
            self.first.setdefault(kind, _place(where))
            self.dropped[kind] = self.dropped.get(kind, 0) + count

    def words(self) -> str:
        """What was left out; "" if nothing."""
        parts = [f"{count:,} {kind} (first at {self.first[kind]})" for kind, count in self.dropped.items()]
        return f"{self.path}: left out {'; '.join(parts)}" if parts else ""

    def say(self) -> None:
        """Warn of what was left out, if anything."""
        if self.dropped:
            warnings.warn(self.words(), EventsWarning, stacklevel=3)


def _place(where: int | str) -> str:
    return where if isinstance(where, str) else f"byte {where}"
