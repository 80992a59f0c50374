"""Which files of a run directory have a section."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from saccade.config import Registry
from saccade.report.run_files import RunFiles

Section = Callable[
    [RunFiles, dict[str, Any]], str
]  # (the run, its summary) -> what fill or render makes; a str is text
SECTIONS: Registry[Section] = Registry("section of the report")


def section(file: str) -> Callable[[Section], Section]:
    """Register a function as the section of a file: ``@section("my-stage.json")``. Raises ValueError if the file has one."""
    return lambda function: SECTIONS.register(file, function)
