"""What a tracker has to beat: nothing learnt, on the same frames and events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from saccade.config import Registry
from saccade.events import EventStream
from saccade.optional import need
from saccade.track.boxes import checked_box, clipped
from saccade.track.crops import Region, region_of
from saccade.track.tracker import HELD_SILENT, Box, Found, inside

FACTOR = 4.0  # sides of the region that is searched, in geometric means of the box's


class Baseline:
    """Base: ``moved`` says where the box is now. The box keeps its size and is cut to the sensor."""

    summary = ""

    def __init__(self) -> None:
        self.box: Box = ()

    def begin(self, frame: Tensor) -> None:
        """Called with the first frame, when ``box`` is known."""

    def moved(self, frame: Tensor, events: EventStream, region: Region) -> Sequence[float]:
        raise NotImplementedError

    def init(self, frame: Tensor, box: Sequence[float]) -> Box:
        self.box = checked_box(box, int(frame.shape[1]), int(frame.shape[2]))
        self.begin(frame)
        return self.box

    def track(self, frame: Tensor, events: EventStream | None = None) -> Found:
        """Raises ValueError without the window's events."""
        if events is None:
            raise ValueError("a baseline is given the events of the window too")
        region = region_of(self.box, FACTOR, 1)
        if not len(events):
            return Found(self.box, 0.0, HELD_SILENT, region, None)
        self.box = clipped(self.moved(frame, events, region), int(frame.shape[1]), int(frame.shape[2]))
        return Found(self.box, 1.0, "", region, None)


BASELINES: Registry[Callable[[], Baseline]] = Registry("baseline of tracking")


class Static(Baseline):
    """The first box for ever."""

    summary = "the first box, for ever"

    def moved(self, frame: Tensor, events: EventStream, region: Region) -> Sequence[float]:
        return self.box


class Median(Baseline):
    """The box moves to the median of the events within its search region."""

    summary = "the median of the events near the box"

    def moved(self, frame: Tensor, events: EventStream, region: Region) -> Sequence[float]:
        x, y = inside(events, region)
        if not len(x):
            return self.box
        _, _, w, h = self.box
        return float(np.median(x)) + 0.5 - w / 2, float(np.median(y)) + 0.5 - h / 2, w, h


class Template(Baseline):
    """The place of the search region where the frame agrees best with the first box's pixels: normalised cross-correlation."""

    summary = "normalised cross-correlation with the first box"

    def begin(self, frame: Tensor) -> None:
        self.pattern = _patch(frame, *(round(value) for value in self.box)).float()

    def moved(self, frame: Tensor, events: EventStream, region: Region) -> Sequence[float]:
        search = _patch(frame, region.left, region.top, region.side, region.side).float()
        pattern = self.pattern - self.pattern.mean()
        if search.shape[1] < pattern.shape[1] or search.shape[2] < pattern.shape[2]:
            return self.box
        count = pattern.numel()
        ones = torch.ones_like(pattern)[None]
        total, square = (F.conv2d(part[None], ones)[0, 0] for part in (search, search**2))
        spread = (square - total**2 / count).clamp(min=1e-6).sqrt()
        agreed = F.conv2d(search[None], pattern[None])[0, 0] / spread
        row, column = divmod(int(agreed.argmax()), agreed.shape[1])
        x, y = self.box[0] - round(self.box[0]), self.box[1] - round(self.box[1])
        return region.left + column + x, region.top + row + y, self.box[2], self.box[3]


class OpenCV(Baseline):
    """A tracker of OpenCV on pictures of the frames: the last polarity of each pixel, off dark, on bright, none grey."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def begin(self, frame: Tensor) -> None:
        cv2 = need("cv2", "dehaze")
        make = getattr(cv2, f"Tracker{self.name}_create", None) or getattr(cv2.legacy, f"Tracker{self.name}_create")
        self.own: Any = make()
        self.own.init(
            self._grey(frame), tuple(max(round(value), 1 if i > 1 else 0) for i, value in enumerate(self.box))
        )

    def moved(self, frame: Tensor, events: EventStream, region: Region) -> Sequence[float]:
        good, found = self.own.update(self._picture(events))
        return tuple(float(value) for value in found) if good and found[2] > 0 and found[3] > 0 else self.box

    def _grey(self, frame: Tensor) -> NDArray[np.uint8]:
        """The first picture: from a frame whose last two channels are off and on."""
        off, on = frame[-2:].numpy()
        return _coloured(np.sign(on - off).astype(np.int64))

    def _picture(self, events: EventStream) -> NDArray[np.uint8]:
        signs = np.zeros((events.height, events.width), np.int64)
        signs[events.y, events.x] = events.p.astype(np.int64) * 2 - 1
        return _coloured(signs)


def _coloured(signs: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.repeat((128 + 127 * signs).astype(np.uint8)[..., None], 3, -1)


def _patch(frame: Tensor, left: int, top: int, width: int, height: int) -> Tensor:
    """Pixels ``[C, height, width]`` of a frame, zeros outside it."""
    rows, columns = frame.shape[-2:]
    made = torch.zeros(frame.shape[0], max(height, 1), max(width, 1), dtype=frame.dtype)
    x, y = max(left, 0), max(top, 0)
    right, bottom = min(left + width, columns), min(top + height, rows)
    if right > x and bottom > y:
        made[:, y - top : bottom - top, x - left : right - left] = frame[:, y:bottom, x:right]
    return made


def _register(name: str, make: Callable[[], Baseline]) -> None:
    BASELINES.register(name, make)


_register("static", Static)
_register("median", Median)
_register("template", Template)
_register("csrt", lambda: OpenCV("CSRT"))
_register("kcf", lambda: OpenCV("KCF"))
