"""What a command asks of the machine before torch is loaded: how many threads, and how they wait."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

QUOTAS = ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us")


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and the quota that a container gives it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _quota())))


def _quota() -> float:
    """Cores' worth of time in the limits of the control group; infinity without one."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path(QUOTAS[0]).read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        allowed = int(Path(QUOTAS[1]).read_text())
        period_us = int(Path(QUOTAS[1]).with_name("cpu.cfs_period_us").read_text())
        return allowed / period_us if allowed > 0 else math.inf
    return math.inf


def set_threads(threads: int | None) -> None:
    """Choose the number of threads: as given, else as OMP_NUM_THREADS says, else the usable cores. Before torch is loaded.

    Threads that wait sleep instead of spinning: where another process wants the cores, spinning costs several times the work
    (OMP_WAIT_POLICY=active brings it back).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))
    if "torch" in sys.modules and threads is not None:
        sys.modules["torch"].set_num_threads(threads)


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """A line on a terminal while libraries load, gone at the end."""
    live = sys.stderr.isatty() and "torch" not in sys.modules
    if live:
        print("loading ...", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
