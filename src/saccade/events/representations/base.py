"""What every representation shares: one-shot and streaming, native and in plain torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from saccade.config import Config, Registry
from saccade.events.stream import EventStream
from saccade.events.windows import Spans, Windows

try:
    from saccade import _native
except ImportError:  # a platform without a wheel, or a source tree that was never built
    _native = None  # type: ignore[assignment]

REPRESENTATIONS: Registry[Representation] = Registry("representation of events")
State = dict[str, Tensor]
MOST_BYTES = 1 << 34


class Events(NamedTuple):
    """Columns of the events of a window as int64 tensors ``[N]`` on one device: time, place ``y * width + x``, polarity."""

    t: Tensor
    place: Tensor
    p: Tensor


@dataclass(frozen=True)
class Representation(Config):
    """How the events of a window become a frame float32 ``[C, H, W]``.

    ``channels``: what each one holds, in order. ``low``, ``high``: what values can be (None: no bound). ``whole``: whether they
    are whole numbers. ``carries``: whether a frame depends on the windows before it, in ``state``: tensors by name, of the
    shapes that ``rest`` gives. ``window`` defines what it is; ``native``, where there is a kernel, is faster and no more.
    """

    registry: ClassVar[Registry] = REPRESENTATIONS
    low: ClassVar[float | None] = 0.0
    high: ClassVar[float | None] = None
    whole: ClassVar[bool] = True
    carries: ClassVar[bool] = False

    @property
    def channels(self) -> tuple[str, ...]:
        raise NotImplementedError

    def rest(self, height: int, width: int) -> State:
        """The state before the first window."""
        return {}

    def window(
        self, events: Events, start_us: int, stop_us: int, height: int, width: int, state: State
    ) -> tuple[Tensor, State]:
        """The frame of one window in plain torch, on the device of the events, and the state after it."""
        raise NotImplementedError

    def native(self, recording: Any, state: State) -> int:
        """The frames of all windows by the native kernels, ``state`` brought up to date; see native/frames.h."""
        raise NotImplementedError


def make_frames(
    events: EventStream,
    representation: Representation | str | Mapping[str, Any] = "count",
    windows: Windows | str | Mapping[str, Any] = "equal_count",
    device: str | torch.device = "cpu",
) -> Tensor:
    """Frames of a whole recording, float32 ``[T, C, H, W]``: one a window, in the channel order of the representation.

    On the CPU native kernels make them in one pass over the events, in one thread; on any other device plain torch does.
    Raises ValueError for settings and recordings that do not go together.
    """
    return FrameStream(representation, events.height, events.width, device).frames(events, Windows.parse(windows))


class FrameStream:
    """Frames of one recording, in order: ``update(events)`` makes the frame of the next window, ``[C, H, W]``.

    Windows by hand or by ``Windows.cutter`` give the frames that ``frames`` gives in one go. ``native``: False for plain torch
    on the CPU too (None: the native kernels where they are built).
    """

    def __init__(
        self,
        representation: Representation | str | Mapping[str, Any],
        height: int,
        width: int,
        device: str | torch.device = "cpu",
        native: bool | None = None,
    ) -> None:
        self.representation: Representation = Representation.parse(representation)
        self.height, self.width = height, width
        self.device = torch.device(device)
        able = _native is not None and type(self.representation).native is not Representation.native
        self.native = (able and self.device.type == "cpu") if native is None else native
        self.reset()

    def reset(self) -> None:
        """Back to before the first window."""
        rest = self.representation.rest(self.height, self.width)
        self.state = {name: value.to(self.device) for name, value in rest.items()}

    def update(self, events: EventStream, start_us: int | None = None, stop_us: int | None = None) -> Tensor:
        """The frame of a window from ``start_us`` to ``stop_us`` (default: its first and last event's time)."""
        first, last = (int(events.t[0]), int(events.t[-1])) if len(events) else (0, 0)
        span = (0, len(events), first if start_us is None else start_us, last if stop_us is None else stop_us)
        return self._frames(events, np.array([span], np.int64))[0]

    def frames(self, events: EventStream, windows: Windows) -> Tensor:
        """The frames of all windows of a recording, ``[T, C, H, W]``, going on from the state there is."""
        return self._frames(events, windows.spans(events))

    def _frames(self, events: EventStream, spans: Spans) -> Tensor:
        if (events.height, events.width) != (self.height, self.width):
            raise ValueError(
                f"events of a sensor of {events.width} x {events.height} for frames of {self.width} x {self.height}"
            )
        cuts = spans[:, :2]
        if len(spans) and (cuts.min() < 0 or cuts.max() > len(events) or (cuts[:, 0] > cuts[:, 1]).any()):
            raise ValueError(f"windows reach outside a recording of {len(events)} events")
        channels = len(self.representation.channels)
        shape = (len(spans), channels, self.height, self.width)
        if np.prod([float(n) for n in shape]) * 4 > MOST_BYTES:
            raise ValueError(f"{len(spans):,} windows would take more than {MOST_BYTES >> 30} GiB of frames")
        if not len(spans):
            return torch.zeros(shape, device=self.device)
        if self.native:
            return self._natively(events, spans, shape)
        made = [self._plainly(events, *map(int, span)) for span in spans]
        return torch.stack(made)

    def _natively(self, events: EventStream, spans: Spans, shape: tuple[int, ...]) -> Tensor:
        stream = events if events.checked else events[:]
        columns = [np.ascontiguousarray(column) for column in (stream.t, stream.x, stream.y, stream.p)]
        spans = np.ascontiguousarray(spans)
        out, scratch = torch.empty(shape), torch.zeros(shape[1:])
        t, x, y, p, cuts = (column.ctypes.data for column in (*columns, spans))
        recording = _native.Recording(
            t, x, y, p, cuts, out.data_ptr(), scratch.data_ptr(), len(spans), self.height, self.width
        )
        wrong = self.representation.native(recording, self.state)
        if wrong >= 0:  # the columns were changed after they were checked
            raise ValueError(f"event {wrong}: lies outside the sensor of {self.width} x {self.height}")
        return out

    def _plainly(self, events: EventStream, first: int, last: int, start_us: int, stop_us: int) -> Tensor:
        part = events[first:last]
        t, x, y, p = (
            torch.from_numpy(np.asarray(c, np.int64)).to(self.device) for c in (part.t, part.x, part.y, part.p)
        )
        columns = Events(t, y * self.width + x, p)
        frame, self.state = self.representation.window(columns, start_us, stop_us, self.height, self.width, self.state)
        return frame


def kernel(name: str) -> Callable[..., int]:
    """A native kernel of native/frames.h."""
    return getattr(_native, name)  # type: ignore[no-any-return]


def last_of(place: Tensor) -> Tensor:
    """For places int64 ``[N]``: which entries are the last ones at their place, bool ``[N]``."""
    if not len(place):
        return torch.zeros(0, dtype=torch.bool, device=place.device)
    order = torch.argsort(place, stable=True)
    sorted_ = place[order]
    last = torch.ones_like(sorted_, dtype=torch.bool)
    last[:-1] = sorted_[1:] != sorted_[:-1]
    found = torch.empty_like(last)
    found[order] = last
    return found


def counts(place: Tensor, size: int, weights: Tensor | None = None) -> Tensor:
    """How many events (or which sum of weights) each of ``size`` places has: float64 ``[size]``."""
    total = torch.zeros(size, dtype=torch.float64, device=place.device)
    return total.index_add_(0, place, torch.ones_like(place, dtype=torch.float64) if weights is None else weights)
