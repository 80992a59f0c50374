"""What the makers of tables share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def short(commit: str | None) -> str:
    """The first digits of a commit, and whether the sources differed from it."""
    return str(commit)[:12] + ("-dirty" if str(commit).endswith("-dirty") else "")


def model_config(protocol: dict[str, Any]) -> dict[str, Any]:
    """The model's settings in a stored recipe ("kwargs" in those of 0.1)."""
    model = protocol["model"]
    config: dict[str, Any] = model["config"] if "config" in model else model["kwargs"]
    return config
