"""Decoders that keep what they think to themselves: of a damaged file the user reads our one line."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else what it logs is printed where nobody set up logging
_LOCK = threading.Lock()
_inside = 0
_kept: Any = None  # while somebody is inside: stderr's descriptor and stream


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, Python's warnings and what C libraries print to file descriptor 2 (libtiff, libpng) go nowhere.

    ``sys.stderr`` keeps its way out, for other threads.
    """
    _close()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _open()


def _close() -> None:
    global _inside, _kept
    with _LOCK:
        _inside += 1
        if _inside > 1:
            return
        try:
            saved = os.dup(2)
        except OSError:  # no stderr at all
            _kept = None
            return
        stream, ours = sys.stderr, None
        with contextlib.suppress(AttributeError, OSError, ValueError):
            if stream.fileno() == 2:
                stream.flush()
                ours = open(saved, "w", 1, encoding=stream.encoding, errors=stream.errors, closefd=False)  # noqa: SIM115
                sys.stderr = ours
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        _kept = saved, stream, ours


def _open() -> None:
    global _inside, _kept
    with _LOCK:
        _inside -= 1
        if _inside or _kept is None:
            return
        saved, stream, ours = _kept
        os.dup2(saved, 2)
        if ours is not None:
            with contextlib.suppress(OSError):
                ours.flush()
            if sys.stderr is ours:
                sys.stderr = stream
        os.close(saved)
        _kept = None
