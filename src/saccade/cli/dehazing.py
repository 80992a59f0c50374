"""Commands that see through haze."""

from __future__ import annotations

import contextlib
import json as jsons
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from saccade.cli import common

app = typer.Typer(
    help="See through haze: pictures, folders and video, without training.", no_args_is_help=True, rich_markup_mode=None
)

Preset = Annotated[str, typer.Option(help="paper, demo, fidelity, clear, fast or video.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change a setting: eps=0.05. Repeatable.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("run")
def run(
    source: Annotated[str, typer.Argument(metavar="IN", help="A picture, a folder, a video, or a camera's number.")],
    out: Annotated[Path, typer.Option("--out", help="File or folder to write.")],
    method: Annotated[str, typer.Option(help="sdo (depth ordering), dcp, cap, bccr or clahe.")] = "sdo",
    preset: Preset = "fidelity",
    settings: Changes = None,
    parts: Annotated[bool, typer.Option("--parts", help="Write transmission and depth order as pictures too.")] = False,
    json: AsJson = False,
) -> None:
    """Dehaze pictures or video; a folder of pictures gets a page with a before/after slider.

    What cannot be read is named and passed over; exit code 1 then.
    """
    from saccade.dehaze import folder

    path = Path(source)
    todo = folder.jobs(path, out)
    dehaze = folder.make(method, _dehazer(preset, settings))
    rows: list[dict[str, Any]] = []
    single = path.is_file()
    with _progress(len(todo), "pictures", json) as tell:
        for row in folder.run(todo, dehaze, parts):
            rows.append(row)
            if "error" in row:
                if single:
                    raise ValueError(row["error"])
                print("saccade: " + row["error"], file=sys.stderr)
            tell()
    failed = sum("error" in row for row in rows)
    record = {
        "format": "saccade-dehaze-1",
        "title": path.name,
        "method": _words(method, preset, settings),
        "pictures": rows,
    }
    page = None
    if not single or out.is_dir():
        page = _write_page(out, record)
    if json:
        common.print_json(record)
    else:
        written = rows[0]["output"] if single else f"{len(rows) - failed:,} of {len(todo):,} pictures to {out}"
        print(f"wrote {written}")
        if page:
            print(f"report {page}")
    if failed:
        raise typer.Exit(1)


def _write_page(out: Path, record: dict[str, Any]) -> Path:
    from saccade.report import write_comparison
    from saccade.train.rundir import write_text

    write_text(out / "dehaze.json", jsons.dumps(record, indent=1) + "\n")
    return write_comparison(out)


def _dehazer(preset: str, settings: list[str] | None) -> Any:
    from saccade.dehaze import Dehazer

    return Dehazer(preset, **_changes(settings))


def _changes(settings: list[str] | None) -> dict[str, Any]:
    changes = {}
    for setting in settings or ():
        key, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"--set {setting!r}: write setting=value, e.g. eps=0.05")
        try:
            changes[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ValueError(f"--set {setting!r}: {value!r} is not valid YAML") from None
    return changes


def _words(method: str, preset: str, settings: list[str] | None) -> str:
    return f"sdo, preset {preset}{''.join(', ' + s for s in settings or ())}" if method == "sdo" else method


@contextlib.contextmanager
def _progress(total: int | None, what: str, quiet: bool) -> Iterator[Any]:
    """A bar on a terminal's stderr, with the rate; nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, rate="")

        def tell() -> None:
            bar.advance(task)
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(task, rate=f"{speed:.1f}/s" if speed else "")

        yield tell
