"""``saccade track run``."""

from __future__ import annotations

import itertools
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saccade.cli import common
from saccade.cli.events import app
from saccade.cli.track.app import track_app

if TYPE_CHECKING:
    from saccade.events import EventStream
    from saccade.events.framing import Framing
    from saccade.track.live import Follower, Step

TEXTS, PICTURES = (".json", ".csv", ".txt"), (".png", ".gif", ".html")
SHOWN = 8  # windows of a picture


@track_app.command("run")
def run(
    recording: Annotated[
        Path, typer.Argument(metavar="RECORDING", help="A recording; or - for lines t x y p from a pipe or camera.")
    ],
    box: Annotated[str, typer.Option(metavar="X,Y,W,H", help="The target in the first window, pixels.")],
    model: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A trained tracker, or its run (default: the one that comes along)."),
    ] = None,
    program: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its integer program, to be run in its place.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="NAME", help="Nothing learnt: static, median, template, csrt, kcf.")
    ] = None,
    window_us: Annotated[
        int | None, typer.Option(min=1, max=app.FAR, metavar="US", help="Windows of this duration.")
    ] = None,
    window_events: Annotated[int | None, typer.Option(min=1, metavar="N", help="Windows of so many events.")] = None,
    start_us: Annotated[
        int | None, typer.Option(metavar="US", help="The box belongs to the first window that ends after this.")
    ] = None,
    windows: Annotated[int | None, typer.Option(min=1, help="Stop after so many windows.")] = None,
    least_events: Annotated[
        int, typer.Option(min=0, help="With fewer events in the search region the box is held and no network runs.")
    ] = 1,
    recentre: Annotated[
        bool,
        typer.Option("--recentre", help="Search around the median of the events: for one mover and a still camera."),
    ] = False,
    momentum: Annotated[
        float | None,
        typer.Option(min=0, max=0.99, help="Search ahead of a moving target, with a velocity that keeps this share."),
    ] = None,
    hann: Annotated[
        float,
        typer.Option(
            min=0, max=16, help="Prefer places near where the target is expected, by this power of a Hann window."
        ),
    ] = 0.0,
    keep_size: Annotated[
        bool, typer.Option("--keep-size", help="The box keeps its first size: for targets that neither near nor turn.")
    ] = False,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            help="Boxes (.json, .csv, .txt), picture (.png), animation (.gif), video (.mp4), page (.html). Repeatable."
        ),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="At most so many windows in an animation, video or page.")] = 600,
    rate: Annotated[float, typer.Option(min=0.1, max=240, help="Windows shown a second.")] = 30.0,
    format: app.FormatName = None,
    height: app.Height = None,
    width: app.Width = None,
    lenient: app.Lenient = False,
    json: app.AsJson = False,
) -> None:
    """Follow a target through a recording, window by window, as events come.

    Prints where it is after each window, and how long that took. A window without events near the target costs nothing: the
    box is held. Windows are those that the tracker was trained on unless others are asked for.
    """
    where = _numbers(box)
    targets = list(out or [])
    for target in targets:
        _kind(target)
    tracker, framing = _tracker(model, program, baseline, least_events, recentre, keep_size, momentum, hann)
    framing = _with_windows(framing, window_us, window_events)
    pictured = any(target.suffix.lower() not in TEXTS for target in targets)
    rows: list[dict[str, Any]] = []
    counts: list[Any] = []
    size = (0, 0)
    from saccade.track.drawing import counted
    from saccade.track.live import follow

    keep = json or bool(targets)  # a camera never ends
    held, number, took = 0, 0, array("d")
    stopped = False
    try:
        with app.notes():
            steps = follow(tracker, framing, _pieces(recording, format, height, width, lenient), where, start_us)
            for step in itertools.islice(steps, windows):
                size = step.window.events.height, step.window.events.width
                row = _row(step)
                number, held = number + 1, held + bool(row["held"])
                took.append(row["latency_ms"])
                if keep:
                    rows.append(row)
                if pictured and len(counts) < frames:
                    counts.append(counted(step.window.events))
                if not json:
                    _say(row)
    except KeyboardInterrupt:  # how a camera is stopped
        if not number:
            raise
        stopped = True
        print("saccade: interrupted; what was followed until then is written", file=sys.stderr)
    slow = sorted(took[1:] or took)
    summary: dict[str, Any] = {
        "format": "saccade-track-1",
        "recording": str(recording),
        "tracker": baseline or str(program or model or "the tracker that comes along"),
        "height": size[0],
        "width": size[1],
        "windows": number,
        "held": held,
        "latency_ms": {"median": slow[len(slow) // 2], "most": slow[-1]},
    }
    for target in targets:
        _write(target, rows, counts, size, summary, rate)
        if not json:
            print(f"wrote {target}")
    if json:
        common.print_json({**summary, "steps": [_plain(row) for row in rows]})
    else:
        print(
            f"{number} windows, {held} held; "
            f"latency {summary['latency_ms']['median']:.1f} ms in the middle, {slow[-1]:.1f} ms at most"
        )
    if stopped:
        raise typer.Exit(130)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(word) for word in text.split(","))
    except ValueError:
        found = ()
    if len(found) != 4:
        raise ValueError(
            f"--box {text!r}: four numbers with commas between, left, top, width, height, e.g. 40,30,20,16"
        )
    return found


def _kind(target: Path) -> str:
    from saccade.dehaze.clips import is_video

    suffix = target.suffix.lower()
    if suffix not in (*TEXTS, *PICTURES) and not is_video(target):
        raise ValueError(f"{target}: boxes end in .json, .csv or .txt, pictures in .png, .gif, .mp4 or .html")
    return suffix


def _tracker(
    model: Path | None,
    program: Path | None,
    baseline: str | None,
    least_events: int,
    recentre: bool,
    keep_size: bool,
    momentum: float | None,
    hann: float,
) -> tuple[Follower, Framing]:
    from saccade.events import REPRESENTATIONS
    from saccade.events.framing import Framing
    from saccade.events.windows import ByTime
    from saccade.files import load_model, model_file
    from saccade.track.baselines import BASELINES
    from saccade.track.tracker import Tracker, shipped

    if baseline is not None:
        if model is not None or program is not None or recentre or keep_size or hann or momentum is not None:
            raise ValueError(
                "--baseline stands alone: it has no model, no program, nothing to recentre and keeps its size"
            )
        return BASELINES[baseline](), Framing(REPRESENTATIONS["gtp"], ByTime(duration_us=20_000), 1, 1)
    file = shipped() if model is None else model_file(model)
    loaded = load_model(file)
    integers = None
    if program is not None:
        from saccade.deploy import load_program

        integers = load_program(program)
    try:
        tracker = Tracker(loaded, integers, least_events, recentre, keep_size, momentum, hann)  # type: ignore[arg-type]
        return tracker, tracker.framing
    except ValueError as error:
        raise ValueError(f"{model or file}: {error}") from None


def _with_windows(framing: Framing, window_us: int | None, window_events: int | None) -> Framing:
    from saccade.experiment.streaming import streamed

    try:
        return streamed(framing, window_us, window_events)
    except ValueError as error:
        raise ValueError(f"{error} (--window-us or --window-events)") from None


def _pieces(
    recording: Path, format: str | None, height: int | None, width: int | None, lenient: bool
) -> Iterator[EventStream]:
    from saccade.events import read_chunks
    from saccade.events.pipes import read_lines

    if str(recording) != "-":
        return read_chunks(recording, format, height=height, width=width, lenient=lenient)
    if height is None or width is None:
        raise ValueError("a pipe does not say the size of its sensor: give --height and --width")
    return read_lines(sys.stdin.buffer, height, width)


def _row(step: Step) -> dict[str, Any]:
    found = step.found
    region = None if found is None else found.region
    return {
        "window": step.number,
        "start_us": step.window.start_us,
        "stop_us": step.window.stop_us,
        "events": len(step.window.events),
        "box": list(step.box),
        "score": 1.0 if found is None else found.score,
        "held": "" if found is None else found.held,
        "latency_ms": step.latency_ms,
        "region": None if region is None else [region.left, region.top, region.side, region.side],
        "scores": None if found is None or found.scores is None else found.scores.tolist(),
    }


def _say(row: dict[str, Any]) -> None:
    x, y, w, h = row["box"]
    held = f"; held: {row['held']}" if row["held"] else ""
    print(
        f"{row['stop_us'] / 1e3:.1f} ms: {x:.1f},{y:.1f},{w:.1f},{h:.1f}  score {row['score']:.2f}, "
        f"{row['events']:,} events, {row['latency_ms']:.1f} ms{held}",
        flush=True,  # a reader of a pipe wants it now
    )


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in ("scores", "region")}


def _write(
    target: Path,
    rows: list[dict[str, Any]],
    counts: list[Any],
    size: tuple[int, int],
    summary: dict[str, Any],
    rate: float,
) -> None:
    from saccade.report import write_text
    from saccade.report.track_page import write_track_page
    from saccade.track.drawing import marked, pictures

    target.parent.mkdir(parents=True, exist_ok=True)
    suffix = _kind(target)
    if suffix == ".json":
        write_text(target, common.as_json({**summary, "steps": [_plain(row) for row in rows]}) + "\n")
    elif suffix == ".csv":
        names = ("window", "start_us", "stop_us", "x", "y", "w", "h", "score", "events", "held", "latency_ms")
        lines = [",".join(names)]
        for row in rows:
            values = {**row, **dict(zip("xywh", row["box"], strict=True))}
            lines.append(
                ",".join(
                    f"{values[name]:.3f}" if isinstance(values[name], float) else str(values[name]) for name in names
                )
            )
        write_text(target, "\n".join(lines) + "\n")
    elif suffix == ".txt":
        write_text(target, "".join(",".join(f"{value:.3f}" for value in row["box"]) + "\n" for row in rows))
    elif suffix == ".html":
        held = f"{summary['held']} held" if summary["held"] else "none held"
        facts = f"{summary['tracker']}; {summary['windows']} windows of {size[1]} x {size[0]} pixels, {held}"
        title = f"Followed: {Path(summary['recording']).name}"
        write_track_page(target, pictures(counts), rows[: len(counts)], size, title, facts)
    else:
        from saccade.cli.events.view import save_pictures, write_animation
        from saccade.events.pictures import sheet

        boxes = [row["box"] for row in rows]
        painted = pictures(counts)
        chosen = range(len(painted))
        if suffix == ".png":
            chosen = sorted({round(i * (len(painted) - 1) / (SHOWN - 1)) for i in range(SHOWN)})  # type: ignore[assignment]
        drawn = [marked(painted[i], size, boxes[: i + 1], bool(rows[i]["held"])) for i in chosen]
        if suffix == ".png":
            save_pictures([sheet(drawn, 4)], target, None)
        else:
            write_animation(drawn, target, rate)
