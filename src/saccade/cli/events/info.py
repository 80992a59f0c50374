"""``saccade events info``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from saccade.cli import common
from saccade.cli.events import app
from saccade.cli.events.app import events_app


@events_app.command("info")
def info(
    paths: Annotated[list[Path], typer.Argument(metavar="RECORDING", help="Recordings, or folders of them.")],
    format: app.FormatName = None,
    height: app.Height = None,
    width: app.Width = None,
    lenient: app.Lenient = False,
    json: app.AsJson = False,
) -> None:
    """Format, sensor, events, time and rate of recordings, a line each. Every event is read and checked.

    What cannot be read is named and passed over; exit code 1 then.
    """
    rows, wrong = [], 0
    for path in app.recordings(paths):
        try:
            with app.notes() as said:
                row = _row(path, format, height, width, lenient)
            rows.append(row | ({"notes": said} if said else {}))
        except (ValueError, ModuleNotFoundError) as error:
            common.complain(str(error))
            wrong += 1
            continue
        if not json:
            print(_line(row))
    if json:
        common.print_json(rows)
    if wrong:
        raise typer.Exit(1)


def _row(path: Path, format: str | None, height: int | None, width: int | None, lenient: bool) -> dict[str, Any]:
    from saccade.events import FORMATS, format_of, read_chunks

    kind = FORMATS[format] if format else format_of(path)
    count = on = 0
    first = last = None
    size = (height, width) if height and width else None
    for chunk in read_chunks(path, kind.name, height=height, width=width, lenient=lenient):
        size = (chunk.height, chunk.width)
        if len(chunk):
            first = int(chunk.t[0]) if first is None else first
            last = int(chunk.t[-1])
        count += len(chunk)
        on += int(chunk.p.sum())
    span = last - first if first is not None and last is not None else 0
    return {
        "file": str(path),
        "format": kind.name,
        "bytes": path.stat().st_size,
        "height": size[0] if size else None,
        "width": size[1] if size else None,
        "events": count,
        "first_us": first,
        "last_us": last,
        "events_per_s": count / span * 1e6 if span else None,
        "on_share": on / count if count else None,
    }


def _line(row: dict[str, Any]) -> str:
    head = f"{row['file']}: {row['format']}"
    if not row["events"]:
        return f"{head}, no events"
    span = row["last_us"] - row["first_us"]
    rate = f", {row['events_per_s'] / 1e6:.4g} Mevents/s" if row["events_per_s"] else ""
    return (
        f"{head}, {row['width']} x {row['height']}, {row['events']:,} events in {span / 1e6:.6g} s{rate}, "
        f"{row['on_share']:.0%} on, {row['first_us']} to {row['last_us']} us"
    )
