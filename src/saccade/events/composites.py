"""Recordings put together from recordings, so that where an object is is known exactly."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.events.stream import EventStream

HARMONICS = 3  # of a path


@dataclass(frozen=True)
class Composite:
    """Events of a target among others. stamps_us: int64 ``[windows + 1]``, the edges of half-open windows.

    boxes: float64 ``[windows, 4]``, left, top, right and bottom edge in pixels of the target's events of each window (right and
    bottom one past the last); NaN in a window without any. of_target: bool ``[N]``, which events are the target's.
    """

    events: EventStream
    stamps_us: NDArray[np.int64]
    boxes: NDArray[np.float64]
    of_target: NDArray[np.bool_]


def composite(
    target: EventStream,
    distractors: tuple[EventStream, ...] = (),
    seed: int = 0,
    *,
    height: int = 128,
    width: int = 128,
    windows: int = 24,
    window_us: int = 20_000,
    scales: tuple[float, float] = (0.8, 1.6),
    noise_hz: float = 1.0,
) -> Composite:
    """Recordings moving over a larger sensor, with noise: the target and each distractor on smooth random paths of their own.

    Each is played again and again, enlarged by a factor drawn from ``scales`` (an event stays one event), and stays on the
    sensor. ``noise_hz``: events a second and pixel, uniform, on or off at even odds. Events of one microsecond keep the order
    target, distractors, noise. Raises ValueError for recordings without events, or that do not fit on the sensor.
    """
    if windows < 1 or window_us < 1 or not 0 < scales[0] <= scales[1] or noise_hz < 0:
        raise ValueError(
            f"windows and their time are 1 or more, scales rise from above 0, noise is not negative: got {windows}, "
            f"{window_us}, {scales}, {noise_hz}"
        )
    draw = np.random.default_rng(seed)
    lasting = windows * window_us
    parts = [_moved(one, draw, height, width, lasting, scales) for one in (target, *distractors)]
    total = draw.poisson(noise_hz * 1e-6 * lasting * height * width)
    noise = [draw.integers(0, end, total) for end in (lasting, width, height, 2)]
    parts.append(np.stack(noise))
    t, x, y, p = np.concatenate(parts, 1)
    mine = np.zeros(len(t), bool)
    mine[: parts[0].shape[1]] = True
    order = np.argsort(t, kind="stable")
    events = EventStream(t[order], x[order], y[order], p[order], height, width)
    stamps = np.arange(windows + 1, dtype=np.int64) * window_us
    return Composite(events, stamps, _boxes(parts[0], stamps), mine[order])


def _moved(
    events: EventStream,
    draw: np.random.Generator,
    height: int,
    width: int,
    lasting: int,
    scales: tuple[float, float],
) -> NDArray[np.int64]:
    """Columns ``[4, N]`` of a recording that is repeated for ``lasting`` microseconds while it moves."""
    if not len(events):
        raise ValueError("a recording without events cannot be put among others")
    scale = draw.uniform(*scales)
    period = events.duration_us + 1
    times = -(-lasting // period)
    t = (np.arange(times)[:, None] * period + (events.t - events.t[0])).ravel()
    kept = t < lasting
    t = t[kept]
    columns = []
    for place, side, room in ((events.x, events.width, width), (events.y, events.height, height)):
        inside = np.floor(place.astype(np.float64) * scale)
        size = int(np.floor((side - 1) * scale)) + 1
        if size > room:
            raise ValueError(f"a recording of {side} pixels, {scale:.2f} times as large, does not fit into {room}")
        way = _path(draw, t / lasting) * (room - size)
        columns.append((np.tile(inside, times)[kept] + np.floor(way)).astype(np.int64))
    return np.stack([t, *columns, np.tile(events.p, times)[kept].astype(np.int64)])


def _path(draw: np.random.Generator, share: NDArray[np.float64]) -> NDArray[np.float64]:
    """A smooth way in [0, 1] over ``share`` in [0, 1): a few slow waves."""
    weights = draw.uniform(0.2, 1, HARMONICS) / np.arange(1, HARMONICS + 1)
    phases = draw.uniform(0, 2 * np.pi, HARMONICS)
    waves = [w * np.sin(np.pi * (k + 1) * share + f) for k, (w, f) in enumerate(zip(weights, phases, strict=True))]
    way: NDArray[np.float64] = 0.5 + 0.5 * np.sum(waves, 0) / weights.sum()
    return way


def _boxes(columns: NDArray[np.int64], stamps: NDArray[np.int64]) -> NDArray[np.float64]:
    """The extent of events ``[4, N]``, in the order of time, in each window."""
    t, x, y, _ = columns
    knots = np.searchsorted(t, stamps)
    boxes = np.full((len(stamps) - 1, 4), np.nan)
    for i, (first, last) in enumerate(itertools.pairwise(knots)):
        if last > first:
            across, down = x[first:last], y[first:last]
            boxes[i] = across.min(), down.min(), across.max() + 1, down.max() + 1
    return boxes
