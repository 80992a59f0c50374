"""What the makers of tables share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from saccade.report import write_text


def table(head: Iterable[str], rows: Iterable[Iterable[str]], numbers: bool = False) -> str:
    """A Markdown table; ``numbers``: all columns but the first are flush right."""
    head = list(head)
    rule = "|---|" + "--:|" * (len(head) - 1) if numbers else "|" + "---|" * len(head)
    lines = ["| " + " | ".join(head) + " |", rule]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def short(commit: str | None) -> str:
    """The first digits of a commit, and whether the sources differed from it."""
    return str(commit)[:12] + ("-dirty" if str(commit).endswith("-dirty") else "")


def model_config(protocol: dict[str, Any]) -> dict[str, Any]:
    """The model's settings in a stored recipe ("kwargs" in those of 0.1)."""
    model = protocol["model"]
    config: dict[str, Any] = model["config"] if "config" in model else model["kwargs"]
    return config


def fill(page: Path, tables: Mapping[str, str]) -> None:
    """Put tables behind their marks ``<!-- NAME -->`` in a page, in the place of those that stand there; other text stays."""
    text = page.read_text(encoding="utf-8")
    for name, made in tables.items():
        put = f"<!-- {name} -->\n\n{made}\n\n"
        text, count = re.subn(rf"<!-- {name} -->\n+(\|.*\n)*\n*", lambda _, put=put: put, text)
        if count != 1:
            raise SystemExit(f"{page.name}: {count} places for the table <!-- {name} -->, not one")
    write_text(page, text.rstrip() + "\n")
