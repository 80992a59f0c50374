"""``saccade events simulate``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saccade.cli.events.app import events_app

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from saccade.events.simulate import Timed

Hertz = Annotated[float, typer.Option(min=0, metavar="HZ")]


@events_app.command("simulate")
def simulate(
    source: Annotated[
        Path,
        typer.Argument(metavar="IMAGE|VIDEO|FOLDER", help="A picture, a video, or a folder of frames (25 a second)."),
    ],
    out: Annotated[Path, typer.Option(help="The recording; its format is that of the name.")],
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Pixels of the sensor (default: of the picture or video).")
    ] = None,
    path: Annotated[
        str, typer.Option(help="How a picture moves: saccades (as N-MNIST) or loop (as CIFAR10-DVS).")
    ] = "saccades",
    amplitude: Annotated[float, typer.Option(min=0, metavar="PIXELS", help="How far a picture moves.")] = 4.0,
    duration_us: Annotated[int, typer.Option(min=1, metavar="US", help="How long a picture moves.")] = 300_000,
    on: Annotated[float, typer.Option(min=0.01, help="Threshold of on events, log brightness.")] = 0.2,
    off: Annotated[float, typer.Option(min=0.01, help="Threshold of off events.")] = 0.2,
    mismatch: Annotated[float, typer.Option(min=0, help="Standard deviation of a pixel's thresholds.")] = 0.03,
    refractory_us: Annotated[float, typer.Option(min=0, metavar="US", help="Rest of a pixel after an event.")] = 0.0,
    leak_hz: Annotated[float, typer.Option(min=0, metavar="HZ", help="On events of a still pixel a second.")] = 0.1,
    noise_hz: Annotated[float, typer.Option(min=0, metavar="HZ", help="Events of noise a pixel and second.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Of thresholds and noise.")] = 0,
) -> None:
    """Make up what an event camera would record of a picture that moves, or of a video.

    Between two frames log brightness is taken as linear: a video of few frames a second makes events of few frames.
    """
    from saccade.events import write_events
    from saccade.events.simulate import Camera, simulate_chunks

    shape = _shape(size)
    camera = Camera(on, off, mismatch, refractory_us, leak_hz, noise_hz)
    scene = _scene(source, shape, path, amplitude, duration_us)
    count = last = 0

    def counted() -> Iterator:
        nonlocal count, last
        for part in simulate_chunks(scene, camera, seed):
            count += len(part)
            last = int(part.t[-1]) if len(part) else last
            yield part

    kind = write_events(out, counted())
    print(f"wrote {out}: {kind.name}, {count:,} events in {last / 1e6:.4g} s")


def _shape(size: str | None) -> tuple[int, int] | None:
    """Height and width of ``WxH``."""
    if size is None:
        return None
    width, x, height = size.lower().partition("x")
    if not x or not width.isdecimal() or not height.isdecimal() or not min(int(width), int(height)) >= 1:
        raise ValueError(f"--size {size!r}: write WxH, such as 128x128")
    if max(int(width), int(height)) > 1 << 14:
        raise ValueError(f"--size {size!r}: at most {1 << 14} pixels a side")
    return int(height), int(width)


def _scene(
    source: Path, shape: tuple[int, int] | None, path: str, amplitude: float, duration_us: int
) -> Iterator[Timed]:
    import numpy as np

    from saccade.dehaze.clips import is_video, open_clip
    from saccade.dehaze.pictures import read_picture
    from saccade.events.scenes import grey, moving, shown

    if source.is_dir() or is_video(source):
        clip = open_clip(source)

        def frames() -> Iterator[tuple[float, NDArray[np.uint8]]]:
            for number, frame in enumerate(clip.frames):
                time = clip.time()
                yield float(time if time is not None else number / clip.rate), frame

        yield from shown(frames(), shape)
        return
    pixels = read_picture(source).pixels
    picture = grey(pixels / np.iinfo(pixels.dtype).max)
    height, width = shape or picture.shape
    yield from moving(picture, height, width, path, amplitude, duration_us, max(1, duration_us // 300))
