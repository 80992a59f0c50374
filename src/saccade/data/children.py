"""Processes that a run starts: they end with it, however it ends."""

from __future__ import annotations

import os
import signal
import threading
import time

SECONDS = 0.5  # between two looks


def end_with_parent(parent: int) -> None:
    """End this process within a second of the one that started it, even if that was killed and could tell nobody."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="end_with_parent", daemon=True).start()


def start_worker(_: int) -> None:
    """What a loader's worker does first. Ctrl-C reaches it too, but whether to stop is the run's to say."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(os.getppid())
