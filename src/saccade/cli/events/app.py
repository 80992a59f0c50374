"""What the commands for event recordings share."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

FAR = 10**17  # microseconds, 3,000 years: further away no time of an option lies

events_app = typer.Typer(
    help="Recordings of event cameras: what is in them, other formats, parts of them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Recording = Annotated[Path, typer.Argument(metavar="RECORDING", help="A recording; its format is found out.")]
FormatName = Annotated[
    str | None, typer.Option("--format", metavar="NAME", help="Read it as this format (default: found out).")
]
Height = Annotated[int | None, typer.Option(min=1, help="Rows of the sensor (default: from the file).")]
Width = Annotated[int | None, typer.Option(min=1, help="Columns of the sensor (default: from the file).")]
Lenient = Annotated[bool, typer.Option("--lenient", help="Leave out what is wrong and say what.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextlib.contextmanager
def notes() -> Iterator[list[str]]:
    """What is said of a recording while it is read, each a line on stderr, once."""
    from saccade.events import EventsWarning

    said: list[str] = []
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", EventsWarning)
        yield said
    for one in found:
        if not issubclass(one.category, EventsWarning):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
        elif str(one.message) not in said:
            said.append(str(one.message))
            print(f"note: {one.message}", file=sys.stderr)


def recordings(paths: list[Path]) -> Iterator[Path]:
    """Files as they are, and the files of folders, in order. Raises ValueError for a folder without files."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        if not files:
            raise ValueError(f"{path}: holds no files")
        yield from files
