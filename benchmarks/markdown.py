"""What the makers of tables share."""

from __future__ import annotations

from collections.abc import Iterable


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def short(commit: str | None) -> str:
    """The first digits of a commit, and whether the sources differed from it."""
    return str(commit)[:12] + ("-dirty" if str(commit).endswith("-dirty") else "")
