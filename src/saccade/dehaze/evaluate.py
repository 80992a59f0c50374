"""Scoring methods on folders of hazy pictures, with a clear reference or without."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.dehaze import folder, method, metrics
from saccade.dehaze.dehazer import Dehazer
from saccade.dehaze.fade import fade
from saccade.dehaze.pictures import MAX_PIXELS, is_picture, read_picture
from saccade.dehaze.settings import PRESETS
from saccade.optional import need

WORDS = {"hazy", "haze", "gt", "clear", "clean"}  # parts of names that say which of a pair it is
REFERENCE = ("psnr", "ssim", "ciede2000")
BLIND = ("fade", "order", "new_edges", "gradient_ratio", "saturated")


def pairs(hazy: Path, gt: Path) -> list[tuple[Path, Path]]:
    """Hazy pictures and their references: of the same name but for words such as hazy and GT, else of the same first part.

    RESIDE names several hazy levels 1400_1, 1400_2, ... of one scene. Raises ValueError for a picture without a reference
    or with several.
    """
    references = _pictures(gt)
    found = []
    for path in _pictures(hazy):
        same = [other for other in references if _key(other) == _key(path)]
        same = same or [other for other in references if _key(other)[:1] == _key(path)[:1]]
        if len(same) != 1:
            raise ValueError(
                f"{path}: has {len(same) or 'no'} references in {gt}; names must agree but for hazy and GT"
            )
        found.append((path, same[0]))
    return found


def contestants(names: Iterable[str]) -> dict[str, Any]:
    """Functions from uint8 to uint8 by name: "hazy" (unchanged), a baseline, or a preset of ours."""
    found: dict[str, Any] = {}
    for name in names:
        if name == "hazy":
            found[name] = lambda pixels: pixels
        elif name in PRESETS:
            found[name] = Dehazer(name)
        else:
            found[name] = _first(folder.make(name, Dehazer()))
    return found


def evaluate(
    hazy: Path,
    gt: Path | None,
    methods: Iterable[str],
    scale: float = 1.0,
    measures: Iterable[str] | None = None,
    *,
    strict_sizes: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[dict[str, Any]]:
    """A row for each picture and method: ``picture``, ``method`` and its measures; of a bad picture one, with its ``error``.

    ``scale`` shrinks both pictures first (means over areas). Depth orders are compared under the paper's airlight of the
    hazy picture. A picture is bad for all methods or none, so that means stay comparable: unreadable, of another size than
    its reference, too small for a measure. Where both sides of one of the two exceed the other's by the same even number of
    pixels (RESIDE's indoor references, 640 x 480 for 620 x 460), the larger one is cropped to its centre, which the row says
    in ``cropped``; with ``strict_sizes`` such a picture is bad too. Raises ValueError for unknown methods or
    measures and missing references.
    """
    known = (*REFERENCE, *BLIND)
    wanted = tuple(measures or (REFERENCE if gt is not None else BLIND))
    for name in wanted:
        if name not in known or (name in REFERENCE and gt is None):
            raise ValueError(
                f"measure {name!r}: known are {', '.join(BLIND)}, and with references {', '.join(REFERENCE)}"
            )
    run = contestants(methods)
    todo: list[tuple[Path, Path | None]] = [(p, None) for p in _pictures(hazy)] if gt is None else list(pairs(hazy, gt))
    for path, reference in todo:
        try:
            image = _read(path, max_pixels)
            clear = None if reference is None else _read(reference, max_pixels)
        except ValueError as error:
            yield {"picture": path.name, "error": str(error)}
            continue
        try:
            cropped = None
            if clear is not None and clear.shape != image.shape:
                image, clear, cropped = _centred(image, clear, strict_sizes)
            image = _shrunk(image, scale)
            clear = None if clear is None else _shrunk(clear, scale)
            A = method.airlight(image / 255.0) if "order" in wanted else None
            scores = {name: _score(image, dehaze(image.copy()), clear, A, wanted) for name, dehaze in run.items()}
        except ValueError as error:
            yield {"picture": path.name, "error": f"{path}: {error}"}
            continue
        for name, score in scores.items():
            yield {"picture": path.name, "method": name, **score} | ({"cropped": cropped} if cropped else {})


def hazy_pictures(folder: Path, scale: float = 1.0) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Name and pixels ``[H, W, 3]`` of every picture of a folder, as ``evaluate`` reads them."""
    for path in _pictures(folder):
        yield path.name, _shrunk(_read(path, MAX_PIXELS), scale)


def _centred(image: NDArray, clear: NDArray, strict: bool) -> tuple[NDArray, NDArray, str]:
    """Hazy and clear picture at one size, the larger one cropped by an equal border, and the words for it."""
    down, across = (clear.shape[axis] - image.shape[axis] for axis in (0, 1))
    if strict or down != across or down % 2:
        raise ValueError(f"{_size(image)}, its reference {_size(clear)}")
    border = abs(down) // 2
    inner = slice(border, -border)
    if down > 0:
        return image, clear[inner, inner], f"reference {_size(clear)} to its centre {_size(image)}"
    return image[inner, inner], clear, f"hazy picture {_size(image)} to its centre {_size(clear)}"


def _size(pixels: NDArray) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"


def _score(
    image: NDArray, result: NDArray, clear: NDArray | None, A: NDArray | None, wanted: tuple[str, ...]
) -> dict[str, float]:
    row: dict[str, float] = {}
    for name in wanted:
        if name in REFERENCE:
            row[name] = getattr(metrics, name)(result, clear)
        elif name == "fade":
            row[name] = fade(result)
        elif name == "order":
            assert A is not None
            row[name] = metrics.order_spearman(image, result, A)
    if set(wanted) & {"new_edges", "gradient_ratio", "saturated"}:
        gain = metrics.e_r_sigma(image, result)._asdict()
        row |= {name: gain[name] for name in wanted if name in gain}
    return {name: round(float(value), 5) for name, value in row.items()}


def _first(function: Any) -> Any:
    return lambda pixels: function(pixels)[0]


def _pictures(path: Path) -> list[Path]:
    files = sorted(file for file in path.iterdir() if is_picture(file)) if path.is_dir() else []
    if not files:
        raise ValueError(f"{path}: no such folder, or no picture in it")
    return files


def _key(path: Path) -> list[str]:
    return [part for part in re.split(r"[_\-. ]+", path.stem.lower()) if part not in WORDS]


def _read(path: Path, max_pixels: int) -> NDArray[np.uint8]:
    pixels = read_picture(path, max_pixels).pixels
    if pixels.dtype != np.uint8:
        pixels = np.floor(pixels / 257 + 0.5).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, 2)
    return np.ascontiguousarray(pixels)


def _shrunk(pixels: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    if scale != 1:
        cv2 = need("cv2", "dehaze")
        height, width = pixels.shape[:2]
        size = None if min(height, width) * scale >= 1 else [max(1, round(side * scale)) for side in (width, height)]
        pixels = cv2.resize(pixels, size, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(pixels)
