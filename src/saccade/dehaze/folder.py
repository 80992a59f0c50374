"""Whole folders of pictures: what cannot be read is named and passed over."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.dehaze.baselines import BASELINES
from saccade.dehaze.dehazer import Dehazer
from saccade.dehaze.parts import Parts
from saccade.dehaze.pictures import MAX_PIXELS, WRITTEN, Picture, is_picture, place_of, read_picture, write_picture

METHODS = ("sdo", *BASELINES)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # no other picture will fare better


@dataclass(frozen=True)
class Job:
    """A picture and where its dehazed form goes."""

    source: Path
    target: Path


def jobs(source: Path, out: Path) -> list[Job]:
    """The pictures of a file or of a folder and its folders, with their places under ``out``.

    Raises ValueError if there is none, or if the place cannot be: pictures over themselves, a format that is not written.
    """
    if source.is_dir():
        files = sorted(path for path in source.rglob("*") if is_picture(path))
        if out.suffix and out.is_file():
            raise ValueError(f"{out}: is a file; a folder of pictures needs a folder to go to")
        inside = out.resolve()
        if inside == source.resolve():
            raise ValueError(f"{source}: its pictures would be written over themselves; give another --out")
        if inside in source.resolve().parents:
            raise ValueError(f"{source}: lies inside {out}, whose own files could be written over; give another --out")
        found = [Job(path, out / path.relative_to(source)) for path in files if inside not in path.resolve().parents]
        if not found:
            raise ValueError(f"{source}: holds no picture (.png, .jpg, .tif, .webp, ...)")
    elif source.is_file():
        named = bool(out.suffix) and not out.is_dir()
        if named and out.suffix.lower() not in WRITTEN:
            raise ValueError(f"{out}: cannot be written as {out.suffix}; known: {', '.join(WRITTEN)}")
        found = [Job(source, out if named else out / source.name)]
    else:
        raise ValueError(f"{source}: no such file or folder")
    return found


def make(method: str, dehazer: Dehazer) -> Callable[[NDArray], tuple[NDArray, Parts | None]]:
    """A function from pixels to dehazed pixels of the same type by the name of a method. Raises ValueError for another."""
    if method == "sdo":
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


def warm_up(dehaze: Callable[[NDArray], object]) -> None:
    """Load what a method needs, so that no picture's time holds it."""
    dehaze(np.zeros((16, 16, 3), np.uint8))


def run(
    todo: list[Job],
    dehaze: Callable[[NDArray], tuple[NDArray, Parts | None]],
    parts: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[dict[str, Any]]:
    """Do the jobs one by one; each gives a row with ``input`` and either ``output`` and what was found, or ``error``.

    ``parts``: write NAME.transmission.png and NAME.order.png too. Nothing is written over a source or over another output:
    where x.gif would become the x.png of x.png, it becomes x.gif.png. ``cpu_seconds`` are those of dehazing alone, without
    reading and writing. Raises OSError where nothing more can be written, on a full or read-only disk.
    """
    warm_up(dehaze)
    sources = {job.source.resolve() for job in todo}
    taken = {job.target for job in todo if job.target.suffix.lower() in WRITTEN}  # they keep their names

    def place(wanted: Path, spare: str) -> Path:
        for path in (wanted, wanted.with_name(spare)):
            if path not in taken and path.resolve() not in sources:
                taken.add(path)
                return path
        raise ValueError(f"{wanted}: another picture goes there, and to {spare}")

    for job in todo:
        row: dict[str, Any] = {"input": str(job.source)}
        try:
            picture = read_picture(job.source, max_pixels)
        except ValueError as error:
            yield row | {"error": str(error)}
            continue
        try:
            target = place_of(job.target, picture)
            if target.resolve() == job.source.resolve():
                raise ValueError(f"would be written over itself as {target.name}; give another --out")
            if target != job.target or target.resolve() in sources:
                target = place(target, f"{job.target.name}.png")
            started = time.process_time()
            pixels, found = dehaze(picture.pixels)
            row["cpu_seconds"] = round(time.process_time() - started, 4)
            row["output"] = str(write_picture(target, Picture(pixels, picture.alpha, picture.metadata)))
            row["size"] = [picture.pixels.shape[1], picture.pixels.shape[0]]
            if found is not None:
                row |= found.scalars()
                if parts:
                    for name, plane, top in (
                        ("transmission", found.transmission, 1.0),
                        ("order", found.order, found.nearest),
                    ):
                        shown = np.floor(np.clip(plane / max(top, 1e-9), 0, 1) * 255 + 0.5).astype(np.uint8)
                        wanted = target.with_name(f"{target.stem}.{name}.png")
                        write_picture(place(wanted, f"{target.name}.{name}.png"), Picture(shown))
        except (ValueError, OSError) as error:
            if getattr(error, "errno", None) in FULL:
                raise
            yield {"input": row["input"], "error": f"{job.source}: {error}"}
            continue
        yield row
