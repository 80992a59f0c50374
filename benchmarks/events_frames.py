"""Speed of event frames, side by side in one process: python benchmarks/events_frames.py [--events N] [--rounds R]

CPU time of one thread, from columns in memory to frames; contenders take turns, medians and spread are over rounds. Two
recordings of 10^7 events: uniform noise on a sensor of 346 x 260 (the worst for caches), and a recorded one, repeated (a hand
that waves, 128 x 128, where it is there: ../shared/data/events/dvs-gesture-10). Rivals: tonic (pip install --no-deps
tonic==1.7.0 tqdm) where it has the representation, and NumPy's ``add.at`` for all. Every result of ours is checked against
NumPy's first, and against tonic's where that computes the same. Writes results/events/frames.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from saccade.events import EventStream, FrameStream, open_events
from saccade.events.windows import ByTime, EqualTime, Windows
from saccade.experiment import environment
from saccade.kernels import keep_memory
from saccade.report import write_text

ROOT = Path(__file__).parents[1]
RECORDED = ROOT.parent / "shared" / "data" / "events" / "dvs-gesture-10" / "2.bs2"
WINDOW_US, BINS, TAU_US = 10_000, 10, 50_000.0
Call = Callable[[], Any]


def noise(count: int) -> EventStream:
    draw = np.random.default_rng(0)
    t = np.sort(draw.integers(0, count // 10, count))  # 10 Mevents/s
    x, y, p = (draw.integers(0, end, count) for end in (346, 260, 2))
    return EventStream(t, x, y, p, 260, 346)


def repeated(path: Path, count: int) -> EventStream:
    one = open_events(path, height=128, width=128)
    times = -(-count // len(one))
    t = (np.arange(times)[:, None] * (one.duration_us + 1) + (one.t - one.t[0])).ravel()[:count]
    # as fast as the noise, so that both have as many windows
    t = (t * (count / 10 / int(t[-1]))).astype(np.int64)
    x, y, p = (np.tile(column, times)[:count] for column in (one.x, one.y, one.p))
    return EventStream(t, x, y, p, 128, 128)


class NumPy:
    """Each representation as NumPy says it shortest, a window after the other.

    tuned: over flat places, with weights of the frame's own type, which ``add.at`` has a fast path for; else as it is usually
    written, ``np.add.at(frame, (p, y, x), 1)``.
    """

    def __init__(self, events: EventStream, windows: Windows, tuned: bool) -> None:
        self.e, self.windows, self.tuned = events, windows, tuned
        self.plane = events.height * events.width

    def add(self, frame: np.ndarray, place: np.ndarray, index: tuple[np.ndarray, ...], weights: Any = 1) -> np.ndarray:
        """Add to places of a flat frame, which ``index`` says as channel, row and column."""
        if self.tuned:
            np.add.at(frame, place, np.float32(1) if isinstance(weights, int) else weights)
        else:
            np.add.at(frame.reshape(-1, self.e.height, self.e.width), index, weights)
        return frame

    def counted(self, place: np.ndarray, index: tuple[np.ndarray, ...]) -> np.ndarray:
        return self.add(np.zeros(2 * self.plane, np.float32), place, index)

    def each(self) -> Any:
        e = self.e
        for first, last, start, stop in self.windows.spans(e):
            p, y, x = e.p[first:last], e.y[first:last], e.x[first:last]
            place = p.astype(np.int64) * self.plane + y.astype(np.int64) * e.width + x
            yield place, (p, y, x), e.t[first:last], start, stop

    def shaped(self, frames: list[np.ndarray]) -> np.ndarray:
        return np.stack(frames).reshape(len(frames), -1, self.e.height, self.e.width)

    def count(self) -> np.ndarray:
        return self.shaped([self.counted(place, index) for place, index, *_ in self.each()])

    def binary(self) -> np.ndarray:
        frames = []
        for place, *_ in self.each():
            frame = np.zeros(2 * self.plane, np.float32)
            frame[place] = 1
            frames.append(frame)
        return self.shaped(frames)

    def event_frame(self) -> np.ndarray:
        frames = []
        for place, (p, _, _), *_ in self.each():
            last = np.full(self.plane, -1, np.int8)
            last[place % self.plane] = p
            frames.append(np.stack([last == 0, last == 1]).astype(np.float32))
        return self.shaped(frames)

    def count_and_time(self) -> np.ndarray:
        frames = []
        for place, index, t, start, stop in self.each():
            frame = np.concatenate([self.counted(place, index), np.zeros(2 * self.plane, np.float32)])
            frame[2 * self.plane + place] = (t - start) / (stop - start)
            frames.append(frame)
        return self.shaped(frames)

    def time_surface(self) -> np.ndarray:
        frames, last = [], np.full(2 * self.plane, -np.inf)
        for place, _, t, _, stop in self.each():
            last[place] = t
            frames.append(np.exp((last - stop) / TAU_US).astype(np.float32))
        return self.shaped(frames)

    def voxel_grid(self) -> np.ndarray:
        frames = []
        for place, (p, y, x), t, start, stop in self.each():
            star = (BINS - 1) * (t - start) / (stop - start)
            low = star.astype(np.int64)
            right = (star - low).astype(np.float32)
            sign = p.astype(np.float32) * 2 - 1
            frame = np.zeros((BINS + 1) * self.plane, np.float32)
            at = low * self.plane + place % self.plane
            self.add(frame, at, (low, y, x), sign * (1 - right))
            self.add(frame, at + self.plane, (low + 1, y, x), sign * right)
            frames.append(frame[: BINS * self.plane])
        return self.shaped(frames)

    def gtp(self) -> np.ndarray:
        frames, trace, before = [], np.zeros(self.plane), None
        for place, index, *_ in self.each():
            count = self.counted(place, index)
            seen = count.reshape(2, -1) > 0
            trace = np.minimum(255, 0.8 * trace + 30.0 * (seen & ~before).sum(0)) if before is not None else trace
            before = seen
            frames.append(np.floor(np.concatenate([trace, np.minimum(255, 30 * count)])).astype(np.float32))
        return self.shaped(frames)


def tonic_calls(events: EventStream) -> dict[str, Call]:
    """Tonic's transforms on its structured arrays; its voxel grid changes them, so it gets a copy within the time."""
    from tonic import transforms

    types = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.int8)])
    rows = np.empty(len(events), types)
    rows["x"], rows["y"], rows["t"], rows["p"] = events.x, events.y, events.t, events.p
    size = (events.width, events.height, 2)
    frame = transforms.ToFrame(sensor_size=size, time_window=WINDOW_US)
    surface = transforms.ToTimesurface(sensor_size=size, dt=WINDOW_US, tau=TAU_US)
    grid = transforms.ToVoxelGrid(sensor_size=size, n_time_bins=BINS)
    return {
        "count": lambda: frame(rows),
        "time_surface": lambda: surface(rows),
        "voxel_grid": lambda: grid(rows.copy()),
    }


def ours(events: EventStream, name: str, windows: Windows) -> Call:
    config = {"voxel_grid": {"bins": BINS}, "time_surface": {"tau_us": TAU_US}}.get(name, {})
    return lambda: FrameStream({"name": name, "config": config}, events.height, events.width).frames(events, windows)


def measure(events: EventStream, recording: str, rounds: int) -> list[dict[str, Any]]:
    rows = []
    try:
        theirs = tonic_calls(events)
    except ModuleNotFoundError as error:
        theirs = {}
        print(f"without tonic: {error}")
    for name in ("count", "binary", "event_frame", "count_and_time", "time_surface", "voxel_grid", "gtp"):
        windows: Windows = EqualTime(frames=1) if name == "voxel_grid" else ByTime(duration_us=WINDOW_US)
        plain: Call = getattr(NumPy(events, windows, tuned=True), name)
        calls: dict[str, Call] = {"saccade": ours(events, name, windows), "numpy, tuned": plain}
        if name in ("count", "count_and_time", "voxel_grid", "gtp"):
            calls["numpy add.at"] = getattr(NumPy(events, windows, tuned=False), name)
        if name in theirs:
            calls["tonic"] = theirs[name]
        found = calls["saccade"]()
        np.testing.assert_allclose(found.numpy(), plain(), rtol=1e-4, atol=2e-3)
        if name == "count" and theirs:
            their = theirs[name]()
            assert np.array_equal(found[: len(their)].numpy(), their)
        del found
        times: dict[str, list[float]] = {key: [] for key in calls}
        for _ in range(rounds):
            for key, call in calls.items():
                started = time.process_time()
                call()
                times[key].append(time.process_time() - started)
        for key, took in times.items():
            nanoseconds = [1e9 * one / len(events) for one in took]
            rows.append(
                {
                    "recording": recording,
                    "representation": name,
                    "contender": key,
                    "rounds": rounds,
                    "ns_per_event": round(statistics.median(nanoseconds), 2),
                    "least": round(min(nanoseconds), 2),
                    "most": round(max(nanoseconds), 2),
                    "times_ours": round(statistics.median(took) / statistics.median(times["saccade"]), 2),
                }
            )
            print(rows[-1], flush=True)
    return rows


def machine() -> dict[str, Any]:
    """What the processor is and can do."""
    said = subprocess.run(["lscpu"], capture_output=True, text=True).stdout if platform.system() == "Linux" else ""
    fields = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    return {key: fields[key].strip() for key in ("Model name", "Flags", "L2 cache", "L3 cache") if key in fields}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "events" / "frames.json")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    rows = measure(noise(settings.events), "noise, 346 x 260", settings.rounds)
    if RECORDED.is_file():
        rows += measure(repeated(RECORDED, settings.events), "a hand, 128 x 128, repeated", settings.rounds)
    record = {
        "format": "saccade-events-frames-1",
        "command": f"python benchmarks/events_frames.py --events {settings.events} --rounds {settings.rounds}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "events": settings.events,
        "window_us": WINDOW_US,
        "measure": "CPU time of one thread, columns in memory to frames",
        "machine": machine(),
        "environment": environment(),
        "rows": rows,
    }
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(settings.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
