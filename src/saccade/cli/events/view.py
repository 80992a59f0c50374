"""``saccade events view``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saccade.cli.events import app
from saccade.cli.events.app import events_app

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from saccade.events import EventStream


@events_app.command("view")
def view(
    path: app.Recording,
    out: Annotated[Path, typer.Option(help="Picture (.png), animation (.gif) or video (.mp4, .webm, ...).")],
    windows: Annotated[int, typer.Option(min=1, max=100, help="Windows of a picture, side by side.")] = 8,
    window_us: Annotated[
        int, typer.Option(min=1, max=app.FAR, metavar="US", help="Duration of a window of an animation or video.")
    ] = 33_000,
    rate: Annotated[
        float, typer.Option(min=0.1, max=240, help="Windows shown a second in an animation or video.")
    ] = 30.0,
    frames: Annotated[int, typer.Option(min=1, help="At most so many windows of an animation or video.")] = 600,
    format: app.FormatName = None,
    height: app.Height = None,
    width: app.Width = None,
    lenient: app.Lenient = False,
) -> None:
    """Show a recording: off events in red, on events in blue, a picture a window.

    A .png holds windows of equal duration over the whole recording, row by row; .gif and video play windows of a fixed one.
    """
    import itertools

    from saccade.dehaze.clips import is_video
    from saccade.events import open_events, read_chunks

    suffix = out.suffix.lower()
    if suffix not in (".png", ".gif") and not is_video(out):
        raise ValueError(f"{out}: a picture ends in .png, an animation in .gif, a video in .mp4 or .webm")
    with app.notes():
        if suffix == ".png":
            events = open_events(path, format, height=height, width=width, lenient=lenient)
            _write_sheet(events, windows, out)
            print(f"wrote {out}: {windows} windows of {events.duration_us / windows / 1e3:.4g} ms")
            return
        chunks = read_chunks(path, format, height=height, width=width, lenient=lenient)
        pictures = list(itertools.islice(_animation(chunks, window_us), frames))
    if not pictures:
        raise ValueError(f"{path}: holds no events")
    write_animation(pictures, out, rate)
    print(f"wrote {out}: {len(pictures)} windows of {window_us / 1e3:g} ms")


def _write_sheet(events: EventStream, windows: int, out: Path) -> None:
    from saccade.events import make_frames
    from saccade.events.pictures import full_scale, painted, sheet

    counts = make_frames(events, "count", {"name": "equal_time", "config": {"frames": windows}}).numpy()
    full = full_scale(counts)
    save_pictures([sheet([painted(one, full) for one in counts], 4)], out, None)


def _animation(chunks: Iterator[EventStream], window_us: int) -> Iterator[NDArray[np.uint8]]:
    """Painted windows; the first one with events says what is full colour."""
    from saccade.events import FrameStream
    from saccade.events.pictures import full_scale, painted
    from saccade.events.windows import ByTime

    cutter = ByTime(duration_us=window_us).cutter()
    frames: FrameStream | None = None
    full = 1.0
    for chunk in chunks:
        frames = frames or FrameStream("count", chunk.height, chunk.width)
        for window in cutter.push(chunk):
            counts = frames.update(*window).numpy()
            full = max(full, full_scale(counts))
            yield painted(counts, full)
    for window in cutter.rest():
        assert frames is not None
        yield painted(frames.update(*window).numpy(), full)


def write_animation(pictures: list[NDArray[np.uint8]], out: Path, rate: float) -> None:
    if out.suffix.lower() == ".gif":
        save_pictures(pictures, out, rate)
        return
    from saccade.dehaze.video_writer import Writer

    writer = Writer(out, Fraction(rate).limit_denominator(1000))
    try:
        for picture in pictures:
            writer.add(picture)
    except BaseException:
        writer.close(keep=False)
        raise
    writer.close()


def save_pictures(pictures: list[NDArray[np.uint8]], out: Path, rate: float | None) -> None:
    """A picture, or an animation where there is a rate; written aside, then renamed."""
    from PIL import Image

    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.name}.{os.getpid()}")
    first, *rest = [Image.fromarray(one) for one in pictures]
    more = {"save_all": True, "append_images": rest, "duration": max(1000 / rate, 20), "loop": 0} if rate else {}
    try:
        first.save(aside, format="GIF" if rate else "PNG", **more)
        os.replace(aside, out)
    finally:
        aside.unlink(missing_ok=True)
