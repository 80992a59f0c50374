"""Following one target: a template from the first frame, a search region in every later one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saccade.deploy.program import Program
from saccade.events import EventStream, Representation
from saccade.events.framing import Framing
from saccade.models.sdtrack import SDTrack
from saccade.neurons import Stream
from saccade.track.boxes import checked_box, clipped
from saccade.track.codec import decoded
from saccade.track.crops import Region, canvas, cut, region_of

Box = tuple[float, ...]
HELD_SILENT, HELD_BROKEN = "no events in the search region", "an answer that is not finite"


class Found(NamedTuple):
    """What a tracker says of a frame. box: left, top, width, height in pixels, cut to the sensor. score: in [0, 1].

    held: why the box is the one before, "" where it is not. scores: the map ``[s, s]`` over ``region``, None where nothing ran.
    """

    box: Box
    score: float
    held: str
    region: Region
    scores: NDArray[np.float32] | None


class Tracker:
    """Follows one target with a trained ``SDTrack``; frames are those of its representation, ``[C, H, W]``, of any sensor.

    >>> tracker = Tracker(load_model("runs/tracker"))
    >>> tracker.init(frame, (60, 40, 20, 16))
    >>> tracker.track(next_frame).box

    program: the model as an integer program (``deploy.lower`` on canvases, unit 1), which is then what runs. least_events:
    where fewer events of the window lie in the search region, the box is held and no network runs, so that nothing is spent
    where nothing moves; it counts where ``track`` is given the window's events. recentre: search around the median of the
    window's events in the search region instead of around the box before; for one mover against a still background (a fixed
    camera), and misled by distractors. momentum: search ahead, where the box would be if it moved on as it did: the velocity is
    ``momentum`` of what it was and the rest of the last displacement, at most half a box a window (None: published, around the
    last box). hann: places near the middle of the search region are preferred, by this power of a Hann window (0: published, 1:
    as in OSTrack; 3 was the best here, of 0.5 to 4; a corner head knows no such places). keep_size: the box keeps the size that
    it began with; for targets that neither come nearer nor turn.

    A model that was trained on sequences (``steps`` of its frames above 1) keeps its potentials from window to window. A box
    is always cut to the sensor. Where the network's answer is not finite the box is held. Raises ValueError for a model of
    which no file says how its frames are made, and a program of another model.
    """

    def __init__(
        self,
        model: SDTrack,
        program: Program | None = None,
        least_events: int = 1,
        recentre: bool = False,
        keep_size: bool = False,
        momentum: float | None = None,
        hann: float = 0.0,
    ) -> None:
        if not isinstance(model, SDTrack):
            raise ValueError(f"a tracker is made of an sdtrack model, got {type(model).__name__}")
        if model.frames is None:
            raise ValueError(
                "the model says nothing of how its frames are made (model.frames): train it, or convert it"
            )
        self.model, self.program = model.eval(), program
        self.representation: Representation = Representation.parse(model.frames.get("representation"))
        if momentum is not None and not 0 <= momentum < 1:
            raise ValueError(f"momentum is in [0, 1), got {momentum:g}")
        self.least_events, self.recentre, self.keep_size = least_events, recentre, keep_size
        if not 0 <= hann <= 16:
            raise ValueError(f"hann, a power, is between 0 and 16, got {hann:g}")
        self.momentum, self.hann = momentum, hann
        self._velocity = (0.0, 0.0)
        c = model.config
        if len(self.representation.channels) != c.inputs:
            raise ValueError(
                f"frames of {len(self.representation.channels)} channels for a model of {c.inputs}: its file is damaged"
            )
        side = c.search + c.template
        if program is not None and program.wires[0].shape != (c.inputs, side, side):
            raise ValueError(
                f"a program of inputs {list(program.wires[0].shape)} for a model of {[c.inputs, side, side]}: it was made "
                "from another"
            )
        self.streams = int(model.frames.get("steps", 1)) > 1
        self.box: Box | None = None
        self._template: Tensor | None = None
        self._stream: Any = None

    @property
    def framing(self) -> Framing:
        """How frames are made, and how recordings are cut into windows."""
        assert self.model.frames is not None
        return Framing.parse(self.model.frames)

    def init(self, frame: Tensor, box: Sequence[float]) -> Box:
        """Begin: the target is in ``box`` of ``frame``. The box, cut to the frame. Raises ValueError for a box that is empty,
        not finite or outside, and a frame of other channels."""
        height, width = self._size(frame)
        self.box, self._velocity = checked_box(box, height, width), (0.0, 0.0)
        c = self.model.config
        self._template = cut(frame, region_of(self.box, c.template_factor, c.template), self.representation.whole)
        if self.streams:
            self._stream = Stream(self.model) if self.program is None else self.program.stream()
        return self.box

    def track(self, frame: Tensor, events: EventStream | None = None) -> Found:
        """Where the target is in the next frame. events: of its window. Raises ValueError before ``init``."""
        if self.box is None or self._template is None:
            raise ValueError("track follows init(frame, box)")
        height, width = self._size(frame)
        c = self.model.config
        ahead = self.box[0] + self._velocity[0], self.box[1] + self._velocity[1], *self.box[2:]
        region = region_of(ahead, c.search_factor, c.search)
        if events is not None:
            x, y = inside(events, region)
            if len(x) < self.least_events:
                return Found(self.box, 0.0, HELD_SILENT, region, None)
            if self.recentre:
                region = around_median(x, y, self.box, c.search_factor, c.search)
        search = cut(frame, region, self.representation.whole)
        if not bool(search.any()):
            return Found(self.box, 0.0, HELD_SILENT, region, None)
        answer = self._answer(canvas(search, self._template))
        if not bool(torch.isfinite(answer).all()):
            return Found(self.box, 0.0, HELD_BROKEN, region, None)
        boxes, scores, maps = decoded(answer, self.hann)
        found = region.outside(boxes[0].tolist())
        if self.keep_size:
            left, top, w, h = found
            found = left + (w - self.box[2]) / 2, top + (h - self.box[3]) / 2, self.box[2], self.box[3]
        before, self.box = self.box, clipped(found, height, width)
        self._velocity = self._moved(before, self.box)
        return Found(self.box, float(scores[0]), "", region, maps[0].numpy())

    def _moved(self, before: Box, now: Box) -> tuple[float, float]:
        """The velocity after a window, pixels a window in x and y."""
        if self.momentum is None:
            return 0.0, 0.0
        most = (before[2] * before[3]) ** 0.5 / 2
        found = []
        for axis, old in enumerate(self._velocity):
            step = now[axis] + now[axis + 2] / 2 - before[axis] - before[axis + 2] / 2
            found.append(self.momentum * old + (1 - self.momentum) * min(max(step, -most), most))
        return found[0], found[1]

    def _answer(self, given: Tensor) -> Tensor:
        with torch.inference_mode():
            if self.program is not None:
                whole = given.numpy().astype(np.int64)
                made = self._stream(whole[None, None])[0] if self.streams else self.program.run(whole[None])
                return torch.from_numpy(np.asarray(made)).float()
            answer: Tensor = self._stream(given[None]) if self.streams else self.model(given[None])
        return answer

    def _size(self, frame: Tensor) -> tuple[int, int]:
        if frame.dim() != 3 or frame.shape[0] != self.model.config.inputs:
            raise ValueError(f"expected a frame [{self.model.config.inputs}, H, W], got {list(frame.shape)}")
        return int(frame.shape[1]), int(frame.shape[2])


def inside(events: EventStream, region: Region) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Columns and rows of the events in a region."""
    x, y = events.x.astype(np.int64), events.y.astype(np.int64)
    kept = (x >= region.left) & (x < region.left + region.side) & (y >= region.top) & (y < region.top + region.side)
    return x[kept], y[kept]


def around_median(x: NDArray[np.int64], y: NDArray[np.int64], box: Box, factor: float, size: int) -> Region:
    """The region of a box of this size around the median of events."""
    middle = float(np.median(x)), float(np.median(y))
    return region_of((middle[0] + 0.5 - box[2] / 2, middle[1] + 0.5 - box[3] / 2, box[2], box[3]), factor, size)


def shipped() -> Path:
    """The trained tracker that comes with the package: ``sdtrack_small``, trained on composites. Raises ValueError without."""
    path = Path(__file__).with_name("small.safetensors")
    if not path.is_file():
        raise ValueError(
            "no trained tracker comes along here; train one (saccade train sdtrack/composites-small) and give --model"
        )
    return path
