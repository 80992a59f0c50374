"""``saccade events cut``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saccade.cli.events import app
from saccade.cli.events.app import events_app
from saccade.cli.events.convert import Rebase, To, chain, shifted

if TYPE_CHECKING:
    from saccade.events import EventStream


@events_app.command("cut")
def cut(
    source: app.Recording,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
    start_us: Annotated[
        int | None, typer.Option(min=-app.FAR, max=app.FAR, help="Events from this time on, microseconds.")
    ] = None,
    stop_us: Annotated[
        int | None, typer.Option(min=-app.FAR, max=app.FAR, help="Events before this time, microseconds.")
    ] = None,
    relative: Annotated[bool, typer.Option("--relative", help="Count these times from the first event on.")] = False,
    skip: Annotated[int, typer.Option(min=0, help="Then leave out so many events.")] = 0,
    count: Annotated[int | None, typer.Option(min=1, help="Then take at most so many.")] = None,
    to: To = None,
    rebase: Rebase = False,
    format: app.FormatName = None,
    height: app.Height = None,
    width: app.Width = None,
    lenient: app.Lenient = False,
) -> None:
    """Write a part of a recording, by time and by number, a chunk in memory at a time."""
    from saccade.events import format_of, open_events, read_chunks, write_events

    if start_us is not None and stop_us is not None and stop_us < start_us:
        raise ValueError(f"--stop-us {stop_us} lies before --start-us {start_us}")
    with app.notes():
        chunks: Iterator[EventStream]
        if not format and not lenient and format_of(source).open:  # mapped: nothing but the part is read
            chunks = iter([open_events(source, height=height, width=width)])
        else:
            chunks = read_chunks(source, format, height=height, width=width, lenient=lenient)
        parts = _part(chunks, start_us, stop_us, relative, skip, count)
        first = next(parts, None)
        if first is None:
            raise ValueError(f"{source}: holds no events there, so {out} is not written")
        written = 0

        def counted(stream: Iterator[EventStream]) -> Iterator[EventStream]:
            nonlocal written
            for part in stream:
                written += len(part)
                yield part

        whole = counted(chain(first, parts))
        kind = write_events(out, shifted(whole) if rebase else whole, to)
    print(f"{out}: {kind.name}, {written:,} events, {out.stat().st_size:,} bytes")


def _part(
    chunks: Iterator[EventStream], start: int | None, stop: int | None, relative: bool, skip: int, count: int | None
) -> Iterator[EventStream]:
    """The part of each chunk that is wanted, without empty ones; reading ends with the last."""
    begin: int | None = None
    for chunk in chunks:
        if not len(chunk):
            continue
        if begin is None:
            begin = int(chunk.t[0]) if relative else 0
        low = 0 if start is None else int(chunk.index(begin + start))
        high = len(chunk) if stop is None else int(chunk.index(begin + stop))
        ends = high < len(chunk)
        low, skip = min(low + skip, max(high, low)), max(skip - max(high - low, 0), 0)
        if count is not None:
            high = min(high, low + count)
            count -= max(high - low, 0)
            ends = ends or count == 0
        if high > low:
            yield chunk[low:high]
        if ends:
            return
