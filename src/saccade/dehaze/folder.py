"""Whole folders of pictures: what cannot be read is named and passed over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.dehaze import native
from saccade.dehaze.baselines import BASELINES
from saccade.dehaze.dehazer import Dehazer, Parts
from saccade.dehaze.pictures import Picture, is_picture, read_picture, write_picture

METHODS = ("sdo", *BASELINES)


@dataclass(frozen=True)
class Job:
    """A picture and where its dehazed form goes."""

    source: Path
    target: Path


def jobs(source: Path, out: Path) -> list[Job]:
    """The pictures of a file or of a folder and its folders, with their places under ``out``.

    Raises ValueError if there is none, or if a picture would be written over itself.
    """
    if source.is_dir():
        files = sorted(path for path in source.rglob("*") if is_picture(path))
        if out.suffix and out.is_file():
            raise ValueError(f"{out}: is a file; a folder of pictures needs a folder to go to")
        inside = out.resolve()
        if inside == source.resolve():
            raise ValueError(f"{source}: its pictures would be written over themselves; give another --out")
        found = [Job(path, out / path.relative_to(source)) for path in files if inside not in path.resolve().parents]
        if not found:
            raise ValueError(f"{source}: holds no picture (.png, .jpg, .tif, .webp, ...)")
    elif source.is_file():
        found = [Job(source, out if out.suffix and not out.is_dir() else out / source.name)]
    else:
        raise ValueError(f"{source}: no such file or folder")
    for job in found:
        if job.target.resolve() == job.source.resolve():
            raise ValueError(f"{job.source}: would be written over itself; give another --out")
    return found


def make(method: str, dehazer: Dehazer) -> Callable[[NDArray], tuple[NDArray, Parts | None]]:
    """A function from pixels to dehazed pixels of the same type by the name of a method. Raises ValueError for another."""
    if method == "sdo":
        if native.available():
            native.threads()  # loads torch now, not within the first picture's time
        return lambda pixels: dehazer(pixels, return_parts=True)
    if method not in BASELINES:
        raise ValueError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    baseline = BASELINES[method]

    def run(pixels: NDArray) -> tuple[NDArray, None]:
        top = np.iinfo(pixels.dtype).max
        colour = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2)
        J = baseline(colour.astype(np.float32) / top)
        result = np.floor(J * top + 0.5).astype(pixels.dtype)
        return (result if pixels.ndim == 3 else result[..., 0]), None

    return run


def run(
    todo: list[Job], dehaze: Callable[[NDArray], tuple[NDArray, Parts | None]], parts: bool = False
) -> Iterator[dict[str, Any]]:
    """Do the jobs one by one; each gives a row with ``input`` and either ``output`` and what was found, or ``error``.

    ``parts``: write NAME.transmission.png and NAME.order.png too. Raises OSError where nothing can be written.
    """
    for job in todo:
        row: dict[str, Any] = {"input": str(job.source)}
        try:
            picture = read_picture(job.source)
            started = time.process_time()
            pixels, found = dehaze(picture.pixels)
            row["cpu_seconds"] = round(time.process_time() - started, 4)
        except ValueError as error:
            yield row | {"error": str(error)}
            continue
        row["output"] = str(write_picture(job.target, Picture(pixels, picture.alpha)))
        row["size"] = [picture.pixels.shape[1], picture.pixels.shape[0]]
        if found is not None:
            row |= found.scalars()
            if parts:
                for name, plane, top in (
                    ("transmission", found.transmission, 1.0),
                    ("order", found.order, found.nearest),
                ):
                    shown = np.floor(np.clip(plane / max(top, 1e-9), 0, 1) * 255 + 0.5).astype(np.uint8)
                    write_picture(job.target.with_name(f"{job.target.stem}.{name}.png"), Picture(shown))
        yield row
