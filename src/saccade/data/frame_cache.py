"""Frames kept on disk: one file for the samples of a set, under a key of everything that made them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

import saccade
from saccade.events.framing import Framing

FORMAT = 1


class Frames(Protocol):
    """Samples whose frames are made when they are asked for."""

    framing: Framing

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Tensor:
        """Float32 ``[T, C, H, W]``."""

    def made_of(self) -> Any:
        """Everything but the framing that decides what the frames are, as JSON holds it: contents of files, settings."""


def cache_root() -> Path:
    """$SACCADE_CACHE, else saccade in $XDG_CACHE_HOME, else ~/.cache/saccade."""
    given = os.environ.get("SACCADE_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "saccade"


def cached(reader: Frames, reading: str) -> Path:
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


def key_of(reader: Frames, reading: str) -> str:
    """32 hexadecimal digits of: what the samples are made of, how frames are made of them, and by which version."""
    whole: dict[str, Any] = {
        "format": FORMAT,
        "version": saccade.__version__,
        "reading": reading,
        "framing": reader.framing.record(),
        "samples": reader.made_of(),
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:32]


def digest_of(path: Path) -> str:
    """SHA-256 of a file. Raises FileNotFoundError naming it."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such recording") from None


def _write(reader: Frames, path: Path) -> None:
    representation = reader.framing.representation
    whole = representation.whole and representation.low is not None and representation.low >= 0
    for dtype in (np.uint8, np.uint16, np.float32) if whole else (np.float32,):
        if _written_as(np.dtype(dtype), reader, path):
            return


def _written_as(dtype: np.dtype[Any], reader: Frames, path: Path) -> bool:
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
