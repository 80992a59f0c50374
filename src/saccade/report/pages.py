"""Pages from templates: whatever goes into one is text, unless a template or a figure made it markup."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render(template: str, **values: Any) -> Markup:
    """One of the files in templates/, filled. Raises jinja2's UndefinedError for a value that it needs and is not given."""
    return Markup(_environment().get_template(template).render(**values))


def fill(template: str, **values: Any) -> Markup:
    """A template that is written where it is used: ``fill("<h2>{{ title }}</h2>", title=name)``; values are escaped."""
    return Markup(_environment().from_string(template).render(**values))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("saccade.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_readable,
    )
    environment.filters["score"] = score_text
    return environment


def _readable(value: Any) -> Any:
    """Bytes of a file's name that are not UTF-8, as the character that stands for such."""
    if isinstance(value, str) and not isinstance(value, Markup) and not value.isascii():
        return os.fsencode(value).decode("utf-8", "replace")
    return value


def score_text(value: float | None, score: Mapping[str, Any]) -> str:
    """A value of a score, as summaries describe scores: ``{name, best, percent}``."""
    if value is None:
        return "–"
    return f"{value:.2%}" if score["percent"] else f"{value:.4g}"
