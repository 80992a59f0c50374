"""Processes that a run starts: they end with it, however it ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time

PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>: the signal that the parent's death sends
SECONDS = 0.5  # between two looks


def end_with_parent(parent: int) -> None:
    """End this process within a second of the one that started it, even if that was killed and could tell nobody.

    On Linux the system does it, also for a process that hangs while its interpreter shuts down; elsewhere a thread looks.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="end_with_parent", daemon=True).start()


def start_worker(_: int) -> None:
    """What a loader's worker does first. Ctrl-C reaches it too, but whether to stop is the run's to say."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(os.getppid())
