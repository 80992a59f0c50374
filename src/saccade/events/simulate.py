"""An event camera made up: brightness that changes, as the events that its pixels would send.

Each pixel keeps the log brightness at which it last sent an event. An event comes where the log brightness, linear between two
pictures, is a threshold away from that (Rebecq et al. 2018, ESIM); thresholds differ from pixel to pixel, a pixel rests after
an event, a leak drives it towards on events, and noise comes by chance (Hu et al. 2021, v2e).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from saccade.config import Config, Registry
from saccade.events.stream import EventStream

Picture = NDArray[Any]
CAMERAS: Registry[Camera] = Registry("event camera")
Threshold = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
LEAST_THRESHOLD = 0.01
ROUNDING = 1e-12  # a ramp of three thresholds crosses three, whatever 0.6 / 0.2 is


class Timed(NamedTuple):
    """A picture ``[H, W]`` of linear or usual pixel values in [0, 1], and when it is seen, microseconds."""

    time_us: float
    picture: Picture


@dataclass(frozen=True)
class Camera(Config):
    """What a pixel does with brightness L in [0, 1].

    on, off: thresholds in units of ``log(L + eps)``. mismatch: standard deviation of a pixel's thresholds (normal, at least
    0.01). refractory_us: rest after an event; what is crossed meanwhile moves the pixel's level and sends nothing. leak_hz:
    on events a second that a still pixel sends. noise_hz: events a second and pixel that mean nothing, on or off at even
    odds.
    """

    registry = CAMERAS
    on: Threshold = 0.2
    off: Threshold = 0.2
    mismatch: NotNegative = 0.03
    refractory_us: NotNegative = 0.0
    leak_hz: NotNegative = 0.1
    noise_hz: NotNegative = 0.1
    eps: Threshold = 0.02


CAMERAS.register("dvs", Camera())
CAMERAS.register("ideal", Camera(mismatch=0.0, leak_hz=0.0, noise_hz=0.0))


def simulate(pictures: Iterable[Timed], camera: Camera | str | dict[str, Any] = "dvs", seed: int = 0) -> EventStream:
    """All events of pictures in order; the first one is where each pixel begins, and sends nothing.

    Times are rounded down to microseconds; events of one microsecond are ordered by their exact time, then row and column.
    Raises ValueError for fewer than one picture, pictures of different sizes or that are no grey pictures, and times that do
    not rise.
    """
    parts = list(simulate_chunks(pictures, camera, seed))
    t, x, y, p = (np.concatenate([getattr(part, name) for part in parts]) for name in ("t", "x", "y", "p"))
    return EventStream(t, x, y, p, parts[0].height, parts[0].width)


def simulate_chunks(
    pictures: Iterable[Timed], camera: Camera | str | dict[str, Any] = "dvs", seed: int = 0
) -> Iterator[EventStream]:
    """``simulate``, the events from each picture to the next as soon as it is there; an empty stream for the first picture."""
    sensor: _Sensor | None = None
    for time_us, picture in pictures:
        if picture.ndim != 2 or not picture.size:
            raise ValueError(f"pictures are grey, [H, W], not {list(picture.shape)}")
        if sensor is None:
            sensor = _Sensor(Camera.parse(camera), picture.shape, seed)
        yield sensor.see(float(time_us), np.asarray(picture, np.float64))
    if sensor is None:
        raise ValueError("there are no pictures to make events of")


class _Crossings(NamedTuple):
    """Pixels that cross ``levels`` levels, each a threshold from the last, upwards (sign 1) or downwards (-1)."""

    pixels: NDArray[np.int64]
    levels: NDArray[np.int64]
    sign: int
    threshold: NDArray[np.float64]


class _Sensor:
    """Pixels between two pictures: their level, when they last sent an event, their thresholds."""

    def __init__(self, camera: Camera, shape: tuple[int, ...], seed: int) -> None:
        self.camera, self.shape = camera, shape
        self.draw = np.random.default_rng(seed)
        spread = self.draw.standard_normal((2, *shape)) * camera.mismatch
        self.off, self.on = (np.maximum(np.array([[[camera.off]], [[camera.on]]]) + spread, LEAST_THRESHOLD)).reshape(
            2, -1
        )
        self.time: float | None = None
        self.level = self.log = np.zeros(0)
        self.sent = np.full(int(np.prod(shape)), -np.inf)

    def see(self, time_us: float, picture: NDArray[np.float64]) -> EventStream:
        """Events from the picture before until this one."""
        if picture.shape != self.shape:
            raise ValueError(f"a picture of {list(picture.shape)} among pictures of {list(self.shape)}")
        log = np.log(np.clip(picture.ravel(), 0, 1) + self.camera.eps)
        if self.time is None:
            self.level, self.log, self.time = log.copy(), log, time_us
            return self._stream([])
        if time_us <= self.time:
            raise ValueError(f"pictures come in the order of time: {time_us:g} us after {self.time:g} us")
        begin, lasting = self.time, time_us - self.time
        leak = self.camera.leak_hz * 1e-6 * lasting  # events
        # a leak lowers what a pixel compares with: until the next picture that is a scene that grows brighter
        start, level = self.log, self.level
        rise = log + leak * self.on - start
        events = []
        for sign, threshold in ((1, self.on), (-1, self.off)):
            count = sign * (start + rise - level) / threshold * (1 + ROUNDING)
            moving = np.flatnonzero(count >= 1)
            if len(moving):
                moved = _Crossings(moving, np.floor(count[moving]).astype(np.int64), sign, threshold[moving])
                events.append(self._send(moved, start, rise, begin, lasting))
        self.level -= leak * self.on
        self.log, self.time = log, time_us
        if self.camera.noise_hz:
            events.append(self._noise(begin, lasting))
        return self._stream(events)

    def _send(
        self,
        moved: _Crossings,
        start: NDArray[np.float64],
        rise: NDArray[np.float64],
        begin: float,
        lasting: float,
    ) -> tuple[NDArray[Any], ...]:
        """Times, pixels and polarity of the events of lines from ``start`` by ``rise``; levels are moved."""
        pixels, count, sign, threshold = moved
        base = self.level[pixels]
        which = np.repeat(np.arange(len(pixels)), count)
        number = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count) + 1
        place = base[which] + sign * number * threshold[which] - start[pixels][which]
        times = begin + np.clip(place / rise[pixels][which], 0, 1) * lasting
        self.level[pixels] = base + sign * count * threshold
        if self.camera.refractory_us:
            kept = self._rested(moved, times)
            which, times = which[kept], times[kept]
        return times, pixels[which], np.full(len(which), sign > 0, np.uint8)

    def _rested(self, moved: _Crossings, times: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which events come from a pixel that has rested: the first of each pixel, then the second, ..."""
        kept = np.zeros(len(times), bool)
        at = np.cumsum(moved.levels) - moved.levels
        for i in range(int(moved.levels.max())):
            there = moved.levels > i
            now, pixel = at[there] + i, moved.pixels[there]
            ready = times[now] - self.sent[pixel] >= self.camera.refractory_us
            kept[now] = ready
            self.sent[pixel[ready]] = times[now[ready]]
        return kept

    def _noise(self, begin: float, lasting: float) -> tuple[NDArray[Any], ...]:
        total = self.draw.poisson(self.camera.noise_hz * 1e-6 * lasting * self.sent.size)
        times = begin + self.draw.random(total) * lasting
        return times, self.draw.integers(0, self.sent.size, total), self.draw.integers(0, 2, total).astype(np.uint8)

    def _stream(self, events: list[tuple[NDArray[Any], ...]]) -> EventStream:
        if not events:
            events = [(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.uint8))]
        times, pixels, polarity = (np.concatenate(columns) for columns in zip(*events, strict=True))
        order = np.lexsort((pixels, times))
        t = np.floor(times[order] + 1e-6).astype(np.int64)
        height, width = self.shape
        y, x = np.divmod(pixels[order], width)
        return EventStream(t, x.astype(np.uint16), y.astype(np.uint16), polarity[order], height, width)
