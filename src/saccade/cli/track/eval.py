"""``saccade track eval``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from saccade.cli import common
from saccade.cli.track.app import track_app


@track_app.command("eval")
def evaluate(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS", help="A folder a tracker: NAME.txt for each sequence, a box a line; or a folder of such."
        ),
    ],
    truth: Annotated[Path, typer.Option(metavar="FOLDER", help="The true boxes: NAME.txt for each sequence.")],
    absent: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Flags by frame: 1 where the target is out of sight.")
    ] = None,
    protocol: Annotated[str, typer.Option(help="fe108, pytracking, lasot or got10k.")] = "fe108",
    partial: Annotated[bool, typer.Option("--partial", help="Leave out sequences without a result.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write scores.json and report.html, with the curves, here.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score the boxes that trackers gave: a table, and success and precision curves on a page.

    Boxes are left, top, width, height in pixels. A result that is too long is cut; boxes that are missing count as lost.
    """
    from rich.table import Table

    from saccade.track.metrics import PROTOCOLS
    from saccade.track.results import read_tracks, trackers_in

    rule = PROTOCOLS[protocol]
    trackers: dict[str, Any] = {}
    notes: list[str] = []
    sizes: set[tuple[int, int]] = set()
    for name, folder in trackers_in(results).items():
        tracks, said = read_tracks(folder, truth, absent, partial)
        scores = rule.score(tracks)
        notes += said
        sizes.add((len(tracks), sum(len(track.truth) for track in tracks)))
        curves = {
            kind: {"thresholds": at.tolist(), "rates": rates.tolist()} for kind, (at, rates) in scores.curves.items()
        }
        trackers[name] = {"numbers": scores.numbers, "curves": curves, "by_sequence": scores.by_sequence}
    record = {
        "format": "saccade-track-scores-1",
        "protocol": protocol,
        "rule": rule.summary,
        "sequences": max(sizes)[0],
        "frames": max(sizes)[1],
        "trackers": trackers,
        "notes": notes,
    }
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if out is not None:
        from saccade.report import write_text
        from saccade.report.track_scores import write_track_scores

        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "scores.json", common.as_json(record) + "\n")
        page = write_track_scores(out)
    if json:
        common.print_json(record)
        return
    columns = list(next(iter(trackers.values()))["numbers"])
    table = Table("tracker", *columns)
    for name, own in sorted(trackers.items(), key=lambda item: -item[1]["numbers"][columns[0]]):
        table.add_row(name, *(f"{own['numbers'][column]:.2f}" for column in columns))
    common.print_table(table)
    print(f"{record['sequences']} sequences, {record['frames']:,} frames; {rule.summary}; in percent")
    if out is not None:
        print(f"wrote {page}")
