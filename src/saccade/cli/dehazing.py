"""Commands that see through haze."""

from __future__ import annotations

import contextlib
import json as jsons
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from saccade.cli import common

app = typer.Typer(
    help="See through haze: pictures, folders and video, without training.", no_args_is_help=True, rich_markup_mode=None
)

DEFAULT_PRESET = "clear"

Preset = Annotated[
    str | None, typer.Option(help="paper, demo, fidelity, clear, fast or video.", show_default=DEFAULT_PRESET)
]
Megapixels = Annotated[
    float,
    typer.Option(
        "--max-megapixels", help="Refuse larger pictures and frames before decoding; 16 bits a channel count 5-fold."
    ),
]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change a setting: eps=0.05. Repeatable.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("run")
def run(
    source: Annotated[str, typer.Argument(metavar="IN", help="A picture, a folder, a video, or a camera's number.")],
    out: Annotated[Path, typer.Option("--out", help="File or folder to write.")],
    method: Annotated[str, typer.Option(help="sdo (depth ordering), dcp, cap, bccr or clahe.")] = "sdo",
    preset: Preset = None,
    settings: Changes = None,
    parts: Annotated[bool, typer.Option("--parts", help="Write transmission and depth order as pictures too.")] = False,
    video: Annotated[bool, typer.Option("--video", help="Take a folder's pictures as the frames of a video.")] = False,
    smoothing: Annotated[
        float | None,
        typer.Option(help="Video: weight of the newest estimate a frame, 1: none.", show_default="0.1"),
    ] = None,
    every: Annotated[
        int | None, typer.Option(help="Video: estimate on every so many frames.", show_default="5")
    ] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Video: stop after so many frames.")] = None,
    max_megapixels: Megapixels = 100.0,
    json: AsJson = False,
) -> None:
    """Dehaze pictures or video; a folder of pictures gets a page with a before/after slider.

    What cannot be read is named and passed over; exit code 1 then. Ctrl-C leaves a video that plays.
    """
    from saccade.dehaze import folder
    from saccade.dehaze.baselines import BASELINES
    from saccade.dehaze.clips import is_video

    max_pixels = _pixels(max_megapixels)
    path = Path(source)
    following = {"smoothing": smoothing, "every": every}
    camera = source.isdecimal() and not path.exists()
    moving = video or camera or (is_video(path) and not path.is_dir())
    if method in BASELINES:
        _refuse(f"--method {method}", preset=preset, set=settings or None, parts=parts or None, **following)
    if moving:
        _refuse("a video", parts=parts or None)
        place = int(source) if camera else path
        options = {name: value for name, value in following.items() if value is not None}
        _run_video(place, out, method, preset, settings, options, frames, max_pixels, json)
        return
    _refuse("pictures", frames=frames, **following)
    todo = folder.jobs(path, out)
    single = path.is_file()
    if not single and (out / "report.html").exists() and not (out / "dehaze.json").exists():
        raise ValueError(f"{out}: holds the report of something else; give another --out")
    dehaze = folder.make(method, _dehazer(preset, settings))
    rows: list[dict[str, Any]] = []
    stopped = False
    with _progress(len(todo), "pictures", json) as tell, _quiet():
        try:
            for row in folder.run(todo, dehaze, parts, max_pixels):
                rows.append(row)
                if "error" in row:
                    if single:
                        raise ValueError(row["error"])
                    print("saccade: " + row["error"], file=sys.stderr)
                tell()
        except KeyboardInterrupt:  # what is done stays, with its page
            stopped = True
            if single:
                raise
    failed = sum("error" in row for row in rows)
    record = {
        "format": "saccade-dehaze-1",
        "title": path.name,
        "method": _words(method, preset, settings),
        "pictures": rows,
    }
    page = None if single else _write_page(out, record)
    if json:
        common.print_json(_finite(record))
    else:
        written = rows[0]["output"] if single else f"{len(rows) - failed:,} of {len(todo):,} pictures to {out}"
        print(f"wrote {_name(written)}")
        if page:
            print(f"report {_name(page)}")
    if stopped:
        raise KeyboardInterrupt
    if failed:
        raise typer.Exit(1)


def _run_video(
    place: Path | int,
    out: Path,
    method: str,
    preset: str | None,
    settings: list[str] | None,
    options: dict[str, Any],
    frames: int | None,
    max_pixels: int,
    json: bool,
) -> None:
    # a video's passes take a millisecond: threads that wait by spinning would take the cores from others, and from each other
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from saccade.dehaze import folder
    from saccade.dehaze.clips import is_video
    from saccade.dehaze.video import VideoDehazer, dehaze_video

    if isinstance(place, Path) and not place.exists():
        raise ValueError(f"{place}: no such file or folder")
    if isinstance(place, Path) and place.is_file() and not is_video(out):
        out = out / place.name
    if isinstance(place, Path) and out.resolve() == place.resolve():
        raise ValueError(f"{place}: would be written over itself; give another --out")
    if method == "sdo":
        dehaze: Callable[[Any], Any] = VideoDehazer(_settings(preset, settings), **options)
    else:
        each = folder.make(method, _dehazer(preset, settings))

        def dehaze(frame: Any) -> Any:
            return each(frame)[0]

        folder.warm_up(dehaze)

    with _progress(None, "frames", json) as tell, _quiet():
        found = dehaze_video(place, out, dehaze, frames, tell, max_pixels)
    if json:
        common.print_json(_finite(found))
    else:
        print(
            f"{found['frames']:,} frames to {_name(out)}, {found['frames_per_second']:.1f} a second "
            "with opening, decoding and encoding"
        )
        if any(found["padding"]):
            across, down = found["padding"]
            print(
                f"padded by {across} column and {down} row: H.264 and MPEG-4 have even sides only; .webm keeps odd ones"
            )
        print(f"dehazing alone {found['dehazing_ms_per_frame']:.2f} ms a frame by the clock", end="")
        print("" if found["flicker"] is None else f"; flicker {found['flicker']:.2f} times that of the input")
    if found["error"]:
        print("saccade: " + found["error"], file=sys.stderr)
        raise typer.Exit(1)
    if found["interrupted"]:
        print("saccade: interrupted; the frames until then are written", file=sys.stderr)
        raise typer.Exit(130)


def _write_page(out: Path, record: dict[str, Any]) -> Path:
    """The page, and beside it what it is made of: inputs by their whole paths, outputs from the folder on."""
    from saccade.report import write_comparison, write_text

    out.mkdir(parents=True, exist_ok=True)  # nothing may have been written yet
    rows = []
    for row in record["pictures"]:
        row = row | {"input": str(Path(row["input"]).absolute())}
        if "output" in row:
            row["output"] = str(Path(row["output"]).relative_to(out))
        rows.append(row)
    write_text(out / "dehaze.json", _text(record | {"pictures": rows}))
    from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # its pictures have passed --max-megapixels
    try:
        return write_comparison(out)
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _pixels(megapixels: float) -> int:
    if not 0 < megapixels < 1e6:
        raise ValueError(f"--max-megapixels is above 0 and below a million, not {megapixels:g}")
    return int(megapixels * 1e6)


def _refuse(what: str, **given: Any) -> None:
    """Raises ValueError for options that were given and mean nothing here."""
    idle = [f"--{name}" for name, value in given.items() if value is not None]
    if idle:
        raise ValueError(f"{' and '.join(idle)}: {'does' if len(idle) == 1 else 'do'} nothing for {what}; leave it out")


def _dehazer(preset: str | None, settings: list[str] | None) -> Any:
    from saccade.dehaze import Dehazer

    return Dehazer(_settings(preset, settings))


def _settings(preset: str | None, settings: list[str] | None) -> Any:
    import yaml

    from saccade.dehaze.settings import settings_for

    changes = {}
    for setting in settings or ():
        key, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"--set {setting!r}: write setting=value, e.g. eps=0.05")
        try:
            changes[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ValueError(f"--set {setting!r}: {value!r} is not valid YAML") from None
    return settings_for(preset or DEFAULT_PRESET, **changes)


def _words(method: str, preset: str | None, settings: list[str] | None) -> str:
    return (
        f"sdo, preset {preset or DEFAULT_PRESET}{''.join(', ' + s for s in settings or ())}"
        if method == "sdo"
        else method
    )


def _name(path: Path | str) -> str:
    """A path as text that prints anywhere: bytes that are not UTF-8 as question marks."""
    return os.fsencode(path).decode("utf-8", "replace")


def _finite(value: Any) -> Any:
    """What JSON has words for: None in place of infinities and NaN."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(value: Any) -> str:
    return jsons.dumps(_finite(value), indent=1, allow_nan=False) + "\n"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings of libraries about damaged files: the line that names the file says what there is to say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


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


@app.command("eval")
def evaluate(
    hazy: Annotated[Path, typer.Option("--hazy", help="Folder of hazy pictures.")],
    gt: Annotated[Path | None, typer.Option("--gt", help="Folder of clear ones with agreeing names.")] = None,
    methods: Annotated[str, typer.Option(help="Baselines (hazy, dcp, cap, bccr, clahe) and presets.")] = (
        "hazy,dcp,cap,bccr,fidelity,clear"
    ),
    scale: Annotated[float, typer.Option(help="Shrink the pictures first.")] = 1.0,
    out: Annotated[Path | None, typer.Option("--out", help="Keep the rows in a JSON file.")] = None,
    strict_sizes: Annotated[
        bool,
        typer.Option(
            "--strict-sizes", help="Refuse pairs of two sizes instead of cropping an equal border off the larger."
        ),
    ] = False,
    max_megapixels: Megapixels = 100.0,
    json: AsJson = False,
) -> None:
    """Score methods picture by picture: PSNR, SSIM and CIEDE2000 against clear pictures; without: FADE, order, edges.

    What cannot be scored is named and left out of the means; exit code 1 then. A pair whose sizes differ by the same even
    border each way (RESIDE's indoor references) is scored on the common centre, which the output says.
    """
    from saccade.dehaze import evaluate as scoring

    if not 0 < scale <= 1:
        raise ValueError(f"--scale lies in (0, 1], not {scale:g}")
    rows = []
    with _progress(None, "scored", json) as tell, _quiet():
        names = [name.strip() for name in methods.split(",")]
        most = _pixels(max_megapixels)
        for row in scoring.evaluate(hazy, gt, names, scale, strict_sizes=strict_sizes, max_pixels=most):
            rows.append(row)
            if "error" in row:
                print("saccade: " + row["error"], file=sys.stderr)
            tell()
    if out is not None:
        from saccade.report import write_text

        write_text(out, _text({"format": "saccade-dehaze-scores-1", "rows": rows}))
    scored = [row for row in rows if "error" not in row]
    if json:
        common.print_json(_finite(rows))
    elif scored:
        _print_scores(scored)
        crops = {row["picture"]: row["cropped"] for row in scored if "cropped" in row}
        for words in dict.fromkeys(crops.values()):
            count = sum(each == words for each in crops.values())
            print(f"cropped for {count:,} of {len({row['picture'] for row in scored}):,} pictures: {words}")
    if len(scored) < len(rows):
        raise typer.Exit(1)


def _print_scores(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    measures = [name for name in rows[0] if name not in ("picture", "method", "cropped")]
    table = Table()
    for name in ("picture", "method", *measures):
        table.add_column(name, justify="left" if name in ("picture", "method") else "right")
    for row in rows:
        table.add_row(row["picture"], row["method"], *(f"{row[name]:.3f}" for name in measures))
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        means = (sum(row[name] for row in own) / len(own) for name in measures)
        table.add_row("mean", method, *(f"{value:.3f}" for value in means))
    common.print_table(table)


@app.command("bench")
def bench(
    size: Annotated[str, typer.Option(help="Width x height in pixels.")] = "1920x1080",
    rounds: Annotated[int, typer.Option(min=3, help="Times a median is taken over.")] = 9,
    json: AsJson = False,
) -> None:
    """Time the presets on this machine: CPU time of one thread, uint8 to uint8 in memory."""
    import statistics
    import time

    import numpy as np
    import torch

    from saccade.dehaze import PRESETS, Dehazer

    parts = size.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise ValueError(f"--size is WIDTHxHEIGHT, e.g. 1920x1080, not {size!r}")
    width, height = (int(part) for part in parts)
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 220, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    image = np.ascontiguousarray(coarse.repeat(16, 0).repeat(16, 1)[:height, :width])
    image += rng.integers(0, 20, image.shape, dtype=np.uint8)
    torch.set_num_threads(1)
    rows = []
    for name in PRESETS:
        dehazer = Dehazer(name)
        dehazer(image)
        times = []
        for _ in range(rounds):
            started = time.process_time()
            dehazer(image)
            times.append((time.process_time() - started) * 1e3 / (width * height / 1e6))
        rows.append(
            {"preset": name, "ms_per_megapixel": round(statistics.median(times), 2), "least": round(min(times), 2)}
        )
    if json:
        common.print_json(rows)
        return
    for row in rows:
        print(
            f"{row['preset']:<10} dehazing {row['ms_per_megapixel']:6.2f} ms of CPU time a megapixel (least {row['least']:.2f})"
        )
