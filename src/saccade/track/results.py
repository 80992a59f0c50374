"""Boxes in files: one sequence a file, one box a line, as trackers and data sets write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saccade.track.boxes import Boxes

MOST_BYTES = 1 << 28


class Track(NamedTuple):
    """Boxes ``[n, 4]`` of a sequence (left, top, width, height): a tracker's, and the true ones.

    absent: bool ``[n]``, whether the target is out of sight. missing: bool ``[n]``, whether the tracker gave no box.
    """

    name: str
    boxes: Boxes
    truth: Boxes
    absent: NDArray[np.bool_]
    missing: NDArray[np.bool_]


def read_boxes(path: str | Path) -> Boxes:
    """Boxes ``[n, 4]`` of a file: a line a frame, four numbers between commas, semicolons, tabs or spaces; "nan" for none.

    Raises ValueError naming the line that is no box, OSError for a file that cannot be read.
    """
    rows = []
    for number, words in _lines(Path(path)):
        try:
            row = [float(word) for word in words]
        except ValueError:
            row = []
        if len(row) != 4:
            raise ValueError(f"{path}: line {number} is no box (x, y, width, height): {' '.join(words)[:60]!r}")
        rows.append(row)
    if not rows:
        raise ValueError(f"{path}: holds no boxes")
    return np.array(rows, np.float64)


def read_flags(path: str | Path, count: int) -> NDArray[np.bool_]:
    """Flags bool ``[count]`` of a file of 0 and 1, a number a line or all in one. Raises ValueError for anything else."""
    words = [word for _, line in _lines(Path(path)) for word in line]
    if len(words) != count or not set(words) <= {"0", "1"}:
        raise ValueError(f"{path}: expected {count} flags of 0 or 1, found {len(words)} words")
    return np.array(words) == "1"


def write_boxes(path: str | Path, boxes: Boxes) -> None:
    """A line a frame, commas between, three decimals."""
    lines = (",".join(f"{value:.3f}" for value in box) for box in boxes)
    Path(path).write_text("\n".join(lines) + "\n", encoding="ascii")


def read_tracks(
    results: str | Path, truth: str | Path, absent: str | Path | None = None, partial: bool = False
) -> tuple[list[Track], list[str]]:
    """Every sequence of a folder of truth (``NAME.txt``) with what a folder of results says of it; and what is to be noted.

    A result that is longer than the truth is cut; where it is shorter, the boxes that are missing count as lost. ``absent``: a
    folder of flags. ``partial``: sequences without a result are left out. Raises ValueError for a folder without sequences, a
    sequence without a result, and files that are no boxes.
    """
    files = sorted(file for file in Path(truth).glob("*.txt") if not file.stem.endswith("_time"))
    if not files:
        raise ValueError(f"{truth}: holds no sequences (NAME.txt, a box a line)")
    gone = [file.stem for file in files if not (Path(results) / file.name).is_file()]
    if len(gone) == len(files):
        raise ValueError(f"{results}: holds no result of the {len(files)} sequences of {truth}, e.g. {files[0].name}")
    if gone and not partial:
        raise ValueError(
            f"{results}: lacks {len(gone)} of {len(files)} sequences, e.g. {gone[0]}; --partial leaves them out"
        )
    notes = [f"{results}: {len(gone)} of {len(files)} sequences have no result and are left out"] if gone else []
    tracks = []
    for file in files:
        if file.stem in gone:
            continue
        real, said = read_boxes(file), read_boxes(Path(results) / file.name)
        flags = np.zeros(len(real), bool) if absent is None else read_flags(Path(absent) / file.name, len(real))
        track = matched(file.stem, said, real, flags)
        if len(said) != len(real):
            what = "the rest is left out" if len(said) > len(real) else "those that are missing count as lost"
            notes.append(f"{Path(results) / file.name}: {len(said)} boxes for {len(real)} frames; {what}")
        tracks.append(track)
    return tracks, notes


def matched(name: str, said: Boxes, truth: Boxes, absent: NDArray[np.bool_] | None = None) -> Track:
    """A track of boxes brought to the length of the truth."""
    count = len(truth)
    boxes = np.full((count, 4), np.nan)
    kept = said[:count]
    boxes[: len(kept)] = kept
    missing = np.arange(count) >= len(kept)
    return Track(name, boxes, truth, np.zeros(count, bool) if absent is None else absent, missing)


def trackers_in(folders: Sequence[Path]) -> dict[str, Path]:
    """Folders of results by the name of their tracker; a folder of folders stands for those. Raises ValueError for none."""
    found: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder}: no folder of results (NAME.txt, a box a line)")
        inner = [one for one in sorted(folder.iterdir()) if one.is_dir() and any(one.glob("*.txt"))]
        for one in [folder] if any(folder.glob("*.txt")) or not inner else inner:
            if one.name in found:
                raise ValueError(f"two folders of results are called {one.name}: {found[one.name]} and {one}")
            found[one.name] = one
    return found


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Numbers and words of the lines that are not empty."""
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path}: more than {MOST_BYTES:,} bytes are no list of boxes")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is no text") from None
    for mark in (",", ";", "\t"):
        text = text.replace(mark, " ")
    return [(number, line.split()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
