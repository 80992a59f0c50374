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
    video: Annotated[bool, typer.Option("--video", help="Take a folder's pictures as the frames of a video.")] = False,
    smoothing: Annotated[float, typer.Option(help="Video: weight of the newest estimate a frame, 1: none.")] = 0.1,
    every: Annotated[int, typer.Option(help="Video: estimate on every so many frames.")] = 5,
    frames: Annotated[int | None, typer.Option(min=1, help="Video: stop after so many frames.")] = None,
    json: AsJson = False,
) -> None:
    """Dehaze pictures or video; a folder of pictures gets a page with a before/after slider.

    What cannot be read is named and passed over; exit code 1 then. Ctrl-C leaves a video that plays.
    """
    from saccade.dehaze import folder
    from saccade.dehaze.video import is_video

    path = Path(source)
    if video or source.isdecimal() or is_video(path):
        _run_video(source, out, method, preset, settings, smoothing, every, frames, json)
        return
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


def _run_video(
    source: str,
    out: Path,
    method: str,
    preset: str,
    settings: list[str] | None,
    smoothing: float,
    every: int,
    frames: int | None,
    json: bool,
) -> None:
    from saccade.dehaze import folder
    from saccade.dehaze.video import VideoDehazer, dehaze_video, is_video

    place = int(source) if source.isdecimal() and not Path(source).exists() else Path(source)
    if isinstance(place, Path) and not place.exists():
        raise ValueError(f"{place}: no such file or folder")
    if isinstance(place, Path) and is_video(place) and not is_video(out):
        out = out / place.name
    if isinstance(place, Path) and out.resolve() == place.resolve():
        raise ValueError(f"{place}: would be written over itself; give another --out")
    if method == "sdo":
        dehaze: Any = VideoDehazer(preset, smoothing, every, **_changes(settings))
    else:
        each = folder.make(method, _dehazer(preset, settings))
        dehaze = lambda frame: each(frame)[0]  # noqa: E731
    with _progress(None, "frames", json) as tell:
        found = dehaze_video(place, out, dehaze, frames, tell)
    if json:
        common.print_json(found)
    else:
        print(f"{found['frames']:,} frames to {out}, {found['frames_per_second']:.1f} a second with decoding and encoding")
        print(f"dehazing alone {found['dehazing_cpu_ms_per_frame']:.2f} ms of CPU time a frame", end="")
        print("" if found["flicker"] is None else f"; flicker {found['flicker']:.2f} times that of the input")
    if found["error"]:
        print("saccade: " + found["error"], file=sys.stderr)
        raise typer.Exit(1)
    if found["interrupted"]:
        print("saccade: interrupted; the frames until then are written", file=sys.stderr)
        raise typer.Exit(130)


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
        yield lambda total=None: None
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

        def tell(total: int | None = None) -> None:
            bar.update(task, advance=1, total=total or bar.tasks[0].total)
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(task, rate=f"{speed:.1f}/s" if speed else "")

        yield tell
