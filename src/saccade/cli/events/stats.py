"""``saccade events stats``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from saccade.cli import common
from saccade.cli.events import app
from saccade.cli.events.app import events_app

MOST_WINDOWS = 10_000_000
HOT = 5


@events_app.command("stats")
def stats(
    source: app.Recording,
    window_us: Annotated[int, typer.Option(min=1, max=app.FAR, help="Length of a window, microseconds.")] = 10_000,
    format: app.FormatName = None,
    height: app.Height = None,
    width: app.Width = None,
    lenient: app.Lenient = False,
    json: app.AsJson = False,
) -> None:
    """How events spread over time, pixels and polarity: events a window, pauses, silent and busy pixels."""
    with app.notes() as said:
        found = _counted(source, window_us, format, height, width, lenient)
    if json:
        common.print_json(found | ({"notes": said} if said else {}))
        return
    if not found["events"]:
        print(f"{source}: no events")
        return
    busy = ", ".join(f"({x}, {y}) {n:,}" for x, y, n in found["busiest_pixels"])
    a_window, pixels = found["events_a_window"], found["events_a_pixel"]
    print(f"{source}: {found['events']:,} events in {found['span_us'] / 1e6:.6g} s, {found['on_share']:.1%} on")
    print(
        f"events in {window_us} us: least {a_window['least']:,}, median {a_window['median']:,.6g}, most {a_window['most']:,}; "
        f"{found['empty_windows']:,} of {found['windows']:,} windows empty"
    )
    print(
        f"longest pause {found['longest_pause_us']:,} us; {found['same_time_share']:.1%} share the time of the event before"
    )
    print(
        f"events a pixel: mean {pixels['mean']:.4g}, most {pixels['most']:,}; "
        f"{found['silent_share']:.1%} of {found['width']} x {found['height']} pixels silent"
    )
    print(f"busiest pixels (x, y): {busy}")


def _counted(
    source: Path, window_us: int, format: str | None, height: int | None, width: int | None, lenient: bool
) -> dict[str, Any]:
    import numpy as np

    from saccade.events import read_chunks

    windows = np.zeros(0, np.int64)
    pixels: Any = np.zeros(0, np.int64)
    count = on = together = pause = 0
    first = last = None
    size = (height or 0, width or 0)
    for chunk in read_chunks(source, format, height=height, width=width, lenient=lenient):
        size = (chunk.height, chunk.width)
        if not len(chunk):
            continue
        first = int(chunk.t[0]) if first is None else first
        gaps = np.diff(chunk.t, prepend=chunk.t[0] if last is None else last)
        together += int((gaps == 0).sum()) - (last is None)
        pause = max(pause, int(gaps.max()))
        last = int(chunk.t[-1])
        if (last - first) // window_us >= MOST_WINDOWS:
            raise ValueError(
                f"{source}: {last - first} us make more than {MOST_WINDOWS:,} windows; give a longer --window-us"
            )
        found = np.bincount((chunk.t - first) // window_us, minlength=len(windows))
        found[: len(windows)] += windows
        windows = found
        seen = np.bincount(chunk.y.astype(np.int64) * chunk.width + chunk.x, minlength=chunk.height * chunk.width)
        pixels = pixels + seen if len(pixels) else seen
        count, on = count + len(chunk), on + int(chunk.p.sum())
    if first is None or last is None:
        nothing = dict.fromkeys(("on_share", "events_a_window", "same_time_share", "events_a_pixel"))
        none = {"span_us": 0, "window_us": window_us, "windows": 0, "empty_windows": 0, "longest_pause_us": 0}
        sizes = {"file": str(source), "events": 0, "height": size[0], "width": size[1]}
        return sizes | none | nothing | {"silent_share": 1.0, "busiest_pixels": []}
    order = np.argsort(pixels, kind="stable")[::-1][:HOT]
    return {
        "file": str(source),
        "events": count,
        "height": size[0],
        "width": size[1],
        "span_us": last - first,
        "on_share": on / count,
        "window_us": window_us,
        "windows": len(windows),
        "empty_windows": int((windows == 0).sum()),
        "events_a_window": {
            "least": int(windows.min()),
            "median": float(np.median(windows)),
            "most": int(windows.max()),
        },
        "longest_pause_us": pause,
        "same_time_share": together / count,
        "events_a_pixel": {"mean": float(pixels.mean()), "most": int(pixels.max())},
        "silent_share": float((pixels == 0).mean()),
        "busiest_pixels": [[int(i) % size[1], int(i) // size[1], int(pixels[i])] for i in order if pixels[i]],
    }
