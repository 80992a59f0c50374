"""A recording while it is read: its bytes, the size of its sensor, and what to do with what is wrong."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.events import faults
from saccade.events.faults import EventsWarning, Faults
from saccade.events.stream import MOST_PIXELS

try:
    from saccade import _native
except ImportError:  # a platform without a wheel, or a source tree that was never built
    _native = None  # type: ignore[assignment]

_TYPES = (np.dtype(np.int64), np.dtype(np.uint16), np.dtype(np.uint16), np.dtype(np.uint8))
Columns = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]  # t int64, x and y uint16, p uint8
BEGINNING = -(1 << 63)
SMALL = 1 << 20  # bytes that are read rather than mapped


class Source:
    """One file. Readers take its bytes, say what its header says of the sensor, and yield checked columns.

    height, width: what the user says, else what the header says; None while nobody knows. part: events of a chunk, or None.
    """

    def __init__(
        self,
        path: Path,
        height: int | None = None,
        width: int | None = None,
        lenient: bool = False,
        part: int | None = None,
    ) -> None:
        self.path, self.part = path, part
        self.faults = Faults(path, lenient)
        for name, side in (("height", height), ("width", width)):
            if side is not None and not 1 <= side <= MOST_PIXELS:
                raise ValueError(f"{name} is a number of pixels from 1 to {MOST_PIXELS}, got {side}")
        self.height, self.width = height, width
        self.last = BEGINNING  # the time of the last event that was kept
        self.most_x = self.most_y = -1
        self.facts: dict[str, Any] = {}  # what else the header says, for `info`
        self._data: NDArray[np.uint8] | None = None

    @property
    def data(self) -> NDArray[np.uint8]:
        """The whole file as uint8: small ones read, large ones mapped."""
        if self._data is None:
            with open(self.path, "rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                if size <= SMALL:
                    self._data = np.frombuffer(file.read(), np.uint8)
                else:
                    self._data = np.memmap(file, np.uint8, "r").view(np.ndarray)
        return self._data

    def head(self, size: int = 1 << 16) -> bytes:
        """The first bytes."""
        return self.data[:size].tobytes()

    def sensor(self, height: int, width: int) -> None:
        """What the header says. What the user said stays. Raises ValueError for a size that no sensor has."""
        if not (1 <= height <= MOST_PIXELS and 1 <= width <= MOST_PIXELS):
            raise self.faults.error("header", f"a sensor of {width} x {height} pixels (1 to {MOST_PIXELS} a side)")
        self.height, self.width = self.height or height, self.width or width

    @property
    def limits(self) -> tuple[int, int]:
        """Height and width that events are held to."""
        return self.height or MOST_PIXELS, self.width or MOST_PIXELS

    def size(self) -> tuple[int, int]:
        """Height and width at the end of reading, taken from the events, with a warning, where nobody said."""
        height, width = self.height or self.most_y + 1, self.width or self.most_x + 1
        if height < 1 or width < 1:
            raise ValueError(f"{self.path}: no events and no size of the sensor in its header; give height and width")
        if not (self.height and self.width):
            warnings.warn(
                f"{self.path}: its header names no size of the sensor; took {width} x {height} from its events "
                "(height and width set it)",
                EventsWarning,
                stacklevel=3,
            )
        return height, width

    def outside(self, x: int, y: int) -> str:
        """What is said of an event outside the sensor."""
        height, width = self.limits
        return f"an event at ({x}, {y}), outside the sensor of {width} x {height} (width x height)"

    def backward(self, before: int, after: int) -> str:
        """What is said of an event that is earlier than the one before it."""
        return f"time runs back from {before} to {after} us"

    def columns(self, t: Any, x: Any, y: Any, p: Any, place: str = "event", first: int = 0) -> Columns:
        """Columns that a library has read, checked: integers of any type. place, first: how to name one of them.

        Raises ValueError, or leaves out, for what is outside the sensor, runs back in time, or has no polarity of 0 or 1.
        """
        height, width = self.limits
        t, x, y, p = (np.asarray(column) for column in (t, x, y, p))
        for name, column in zip("txyp", (t, x, y, p), strict=True):
            if column.dtype.kind not in "iub" or column.ndim != 1:
                raise self.faults.error(
                    f"column {name}", f"is {column.dtype} of shape {column.shape}; integers are wanted"
                )
        if len({len(t), len(x), len(y), len(p)}) != 1:
            lengths = f"t {len(t)}, x {len(x)}, y {len(y)}, p {len(p)}"
            raise self.faults.error("columns", f"have different lengths: {lengths}")
        if t.dtype.kind == "u" and len(t) and int(t.max()) > (1 << 63) - 1:
            raise self.faults.error("column t", "holds times beyond 2^63 us")
        if _native is not None and self._right(t, x, y, p):
            return t, x, y, p.view(np.uint8)
        if not len(t):
            return t.astype(np.int64), x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8)
        t = t.astype(np.int64, copy=False)
        if p.dtype.kind == "i" and int(p.min()) == -1 and not (p == 0).any():
            p = p > 0  # off is -1
        good = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        self._leave_out(~good, faults.OUTSIDE, place, first, lambda i: self.outside(int(x[i]), int(y[i])))
        known = (p == 0) | (p == 1)
        self._leave_out(good & ~known, faults.POLARITY, place, first, lambda i: f"polarity {p[i]}; 0 and 1 are known")
        good &= known
        latest = np.maximum.accumulate(np.where(good, t, BEGINNING))
        before = np.maximum(np.concatenate([[self.last], latest[:-1]]), self.last)
        back = good & (t < before)
        self._leave_out(back, faults.BACKWARD, place, first, lambda i: self.backward(int(before[i]), int(t[i])))
        good &= ~back
        if not good.all():
            t, x, y, p = t[good], x[good], y[good], p[good]
        if len(t):
            self.last = int(t[-1])
            self.most_x, self.most_y = max(self.most_x, int(x.max())), max(self.most_y, int(y.max()))
        return t, x.astype(np.uint16, copy=False), y.astype(np.uint16, copy=False), p.astype(np.uint8, copy=False)

    def _right(self, t: NDArray[Any], x: NDArray[Any], y: NDArray[Any], p: NDArray[Any]) -> bool:
        """Whether columns of the types that are wanted hold nothing that is wrong, in one native look; most files are so."""
        types = (t.dtype, x.dtype, y.dtype, p.view(np.uint8).dtype if p.dtype == np.bool_ else p.dtype)
        if types != _TYPES or not len(t) or not all(column.flags.c_contiguous for column in (t, x, y, p)):
            return False
        height, width = self.limits
        at = [column.ctypes.data for column in (t, x, y, p)]
        most = _native.events_check(at[0], at[1], at[2], at[3], len(t), self.last, width, height)
        if most is None:
            return False
        self.last = int(t[-1])
        self.most_x, self.most_y = max(self.most_x, most[0]), max(self.most_y, most[1])
        return True

    def _leave_out(self, bad: NDArray[np.bool_], kind: str, place: str, first: int, words: Any) -> None:
        if bad.any():
            at = int(bad.argmax())
            self.faults.found(kind, f"{place} {first + at}", words(at), int(bad.sum()))
