"""``saccade events convert``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saccade.cli import common
from saccade.cli.events import app
from saccade.cli.events.app import events_app

if TYPE_CHECKING:
    from saccade.events import EventStream

To = Annotated[
    str | None, typer.Option("--to", metavar="NAME", help="Write this format (default: by the name of OUT).")
]
Rebase = Annotated[bool, typer.Option("--rebase", help="Count time from the first event on.")]


@events_app.command("convert")
def convert(
    source: app.Recording,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write; a folder for a folder.")],
    to: To = None,
    rebase: Rebase = False,
    format: app.FormatName = None,
    height: app.Height = None,
    width: app.Width = None,
    lenient: app.Lenient = False,
) -> None:
    """Write a recording in another format, a chunk in memory at a time; a folder of one format file by file.

    A file that is there is replaced once the new one is whole.
    """
    if not source.is_dir():
        one(source, out, to, rebase, format, height, width, lenient)
        return
    from saccade.events import common_format, format_for

    files = list(app.recordings([source]))
    kind = format or common_format(files).name
    if to is None:
        raise ValueError(f"{source}: is a folder; say with --to what to write")
    suffix = format_for("", to).suffixes[0]
    targets = {file: (out / file.relative_to(source)).with_suffix(suffix) for file in files}
    for file, target in targets.items():
        other = next(one for one in files if targets[one] == target)
        if other != file:
            raise ValueError(f"{file}: would be written to {target}, as {other}; rename one of them")
    wrong = 0
    for file, target in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            one(file, target, to, rebase, kind, height, width, lenient)
        except ValueError as error:
            common.complain(str(error))
            wrong += 1
    if wrong:
        raise typer.Exit(1)


def one(
    source: Path,
    out: Path,
    to: str | None,
    rebase: bool,
    format: str | None,
    height: int | None,
    width: int | None,
    lenient: bool,
) -> None:
    from saccade.events import read_chunks, write_events

    count = 0

    def counted() -> Iterator[EventStream]:
        nonlocal count
        for chunk in read_chunks(source, format, height=height, width=width, lenient=lenient):
            count += len(chunk)
            yield chunk

    with app.notes():
        chunks: Iterator[EventStream] = shifted(counted()) if rebase else counted()
        first = next(chunks, None)
        if first is None:
            from saccade.events import open_events

            first = open_events(source, format, height=height, width=width, lenient=lenient)
        kind = write_events(out, chain(first, chunks), to)
    print(f"{out}: {kind.name}, {count:,} events, {out.stat().st_size:,} bytes")


def chain(first: EventStream, rest: Iterator[EventStream]) -> Iterator[EventStream]:
    yield first
    yield from rest


def shifted(chunks: Iterator[EventStream]) -> Iterator[EventStream]:
    """The same events, the first at 0 us."""
    from saccade.events import EventStream

    begin: int | None = None
    for chunk in chunks:
        if begin is None and len(chunk):
            begin = int(chunk.t[0])
        t = chunk.t - (begin or 0)
        yield EventStream.trusted(t, chunk.x, chunk.y, chunk.p, chunk.height, chunk.width)
