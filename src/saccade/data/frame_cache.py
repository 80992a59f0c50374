"""Frames kept on disk: one file for the samples of a set, under a key of everything that made them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import saccade

if TYPE_CHECKING:
    from saccade.data.event_frames import Reader

FORMAT = 1


def cache_root() -> Path:
    """$SACCADE_CACHE, else saccade in $XDG_CACHE_HOME, else ~/.cache/saccade."""
    given = os.environ.get("SACCADE_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "saccade"


def cached(reader: Reader, reading: str) -> Path:
    """The file of all frames of the reader's samples, ``[M, T, C, H, W]`` as npy; made if it is not there.

    Whole numbers are kept in as few bytes as they need, everything else as float32. The file is written aside and renamed, so
    that it is whole if it is there; of several processes one makes it and the others wait. Raises ValueError naming a recording
    that cannot be read, OSError if the disk is full or the folder cannot be written.
    """
    path = cache_root() / "frames" / f"{key_of(reader, reading)}.npy"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        if not path.exists():
            aside = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                _write(reader, aside)
                os.replace(aside, path)
            finally:
                aside.unlink(missing_ok=True)
    return path


def key_of(reader: Reader, reading: str) -> str:
    """32 hexadecimal digits of: the contents of the recordings, which part of which is which sample, how frames are made."""
    digests: dict[Path, str] = {}
    for clip in reader.clips:
        if clip.path not in digests:
            digests[clip.path] = digest_of(clip.path)
    made_of: dict[str, Any] = {
        "format": FORMAT,
        "version": saccade.__version__,
        "reading": reading,
        "framing": reader.framing.record(),
        "samples": [(digests[clip.path], clip.start_us, clip.stop_us) for clip in reader.clips],
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:32]


def digest_of(path: Path) -> str:
    """SHA-256 of a file. Raises FileNotFoundError naming it."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such recording") from None


def _write(reader: Reader, path: Path) -> None:
    representation = reader.framing.representation
    whole = representation.whole and representation.low is not None and representation.low >= 0
    for dtype in (np.uint8, np.uint16, np.float32) if whole else (np.float32,):
        if _written_as(np.dtype(dtype), reader, path):
            return


def _written_as(dtype: np.dtype[Any], reader: Reader, path: Path) -> bool:
    """Whether all values fit into ``dtype``; the file is of no use if they do not."""
    most = np.iinfo(dtype).max if dtype.kind == "u" else np.inf
    kept: Any = None
    for i in range(len(reader)):
        frames = reader[i].numpy()
        if kept is None:
            kept = np.lib.format.open_memmap(path, "w+", dtype, (len(reader), *frames.shape))
        if frames.size and frames.max() > most:
            return False
        kept[i] = frames
    if kept is None:
        raise ValueError("a set without recordings")
    kept.flush()
    return True


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Only one process at a time is in here, where the system has locks."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        with contextlib.suppress(OSError):  # a file system without locks: the rename keeps the file whole
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
