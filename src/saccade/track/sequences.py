"""Recordings with a box a window, and what is learnt from of them: pairs, or a template and several windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from saccade.data.frame_cache import cached
from saccade.data.imageset import ImageSet, Indices
from saccade.data.source import DataSource
from saccade.events import REPRESENTATIONS, Representation
from saccade.events.framing import Framing
from saccade.events.windows import ByTime
from saccade.track.boxes import Boxes
from saccade.track.crops import Region, canvas, cut, region_of

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
GAP_STEP = 5


class Recordings(Protocol):
    """Sequences. ``boxes``: of each, ``[T, 4]`` (left, top, width, height), NaN where the target is out of sight."""

    framing: Framing
    boxes: list[Boxes]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Tensor:
        """Frames float32 ``[T, C, H, W]`` of a sequence, one a box."""

    def made_of(self) -> Any:
        """Everything but the framing that decides what the frames are, as JSON holds it."""


class Frames:
    """Frames of sequences, made when they are asked for and kept in memory as small as they are."""

    def __init__(self, recordings: Recordings, kept: Path | None = None) -> None:
        self.recordings, self.kept = recordings, kept
        self._made: dict[int, Tensor] = {}
        self._map: Any = None

    def __call__(self, index: int) -> Tensor:
        """``[T, C, H, W]``, uint8 where all values are whole and fit."""
        if self.kept is not None:
            if self._map is None:
                self._map = np.load(self.kept, mmap_mode="r")
            return torch.from_numpy(np.asarray(self._map[index]))
        if index not in self._made:
            frames = self.recordings[index]
            small = self.recordings.framing.representation.high == 255.0
            self._made[index] = frames.to(torch.uint8) if small else frames
        return self._made[index]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_map": None}


class Sample(NamedTuple):
    """A template and the windows behind it: numbers of a sequence and of its windows, and where the regions lie."""

    sequence: int
    template: int
    search: tuple[int, ...]
    regions: tuple[Region, ...]  # the template's, then one a window


@dataclass(frozen=True)
class TrackSource(DataSource):
    """Sequences with boxes as samples to learn from. A sample is a canvas ``[C, search + template, search + template]``, or
    with ``steps`` above 1 a sequence of such: one template, then so many windows in a row.

    pairs, test_pairs: how many samples are drawn, of seeds that depend on their number alone; few epochs of many samples are
    what many epochs of fresh ones would be. gap: the search window lies at most so many windows behind the template, further
    where there is none (by 5). scale_jitter, centre_jitter: of the search region, the standard deviation of the logarithm of
    its sides, and twice the most that its middle is away from the target, in geometric means of its sides (Yan et al. 2021,
    STARK: 0.25 and 3; the template has none). search, template, search_factor, template_factor: as the model's.
    """

    scale: ClassVar[float] = 1.0
    representation: Representation = REPRESENTATIONS["gtp"]
    search: Positive = 256
    template: Positive = 128
    search_factor: Annotated[float, Field(gt=0)] = 4.0
    template_factor: Annotated[float, Field(gt=0)] = 2.0
    pairs: Positive = 60_000
    test_pairs: Positive = 2000
    steps: Positive = 1
    gap: Positive = 200
    scale_jitter: NotNegative = 0.25
    centre_jitter: NotNegative = 3.0
    cache: bool = False

    @property
    def sequences(self) -> bool:  # type: ignore[override]
        return self.steps > 1

    def samples(self, recordings: Recordings, count: int, part: int) -> Samples:
        """A set of samples. Raises ValueError for sequences in which no target is seen twice."""
        kept = cached(recordings, self.kind()) if self.cache else None
        return Samples(self, Frames(recordings, kept), self.draw(recordings.boxes, count, part))

    def draw(self, boxes: Sequence[Boxes], count: int, part: int) -> list[Sample]:
        """Which windows of which sequences, and where their regions lie."""
        visible = [np.flatnonzero(np.isfinite(own).all(1)) for own in boxes]
        usable = [i for i, at in enumerate(visible) if len(at) > self.steps and _in_a_row(at, self.steps)]
        if not usable:
            raise ValueError(
                f"{self.kind()}: no sequence shows its target in a template and {self.steps} windows behind it"
            )
        made = []
        for number in range(count):
            draw = np.random.default_rng((part, number))
            while True:
                i = usable[int(draw.integers(len(usable)))]
                template = int(draw.choice(visible[i]))
                first = self._behind(draw, visible[i], template)
                if first is not None:
                    break
            search = tuple(range(first, first + self.steps))
            regions = [region_of(boxes[i][template], self.template_factor, self.template)]
            seen = set(visible[i].tolist())
            for at in search:  # several windows: around where the target was in the window before, as it is followed
                before = at - 1 if self.steps > 1 and at - 1 in seen else at
                regions.append(self._around(draw, boxes[i][before]))
            made.append(Sample(i, template, search, tuple(regions)))
        return made

    def _behind(self, draw: np.random.Generator, visible: NDArray[np.int64], template: int) -> int | None:
        """The first of ``steps`` windows in a row, all with the target, behind the template; None if there are none."""
        starts = [int(at) for at in visible if at > template and _seen(visible, int(at), self.steps)]
        if not starts:
            return None
        gap = self.gap
        while not (near := [at for at in starts if at <= template + gap]):
            gap += GAP_STEP
        return near[int(draw.integers(len(near)))]

    def _around(self, draw: np.random.Generator, box: NDArray[np.float64]) -> Region:
        """A search region about a box, not exactly around it."""
        x, y, w, h = box
        sides = np.array([w, h]) * np.exp(self.scale_jitter * draw.standard_normal(2))
        most = np.sqrt(sides.prod()) * self.centre_jitter
        cx, cy = np.array([x + w / 2, y + h / 2]) + most * (draw.random(2) - 0.5)
        return region_of((cx - sides[0] / 2, cy - sides[1] / 2, *sides), self.search_factor, self.search)


def _seen(visible: NDArray[np.int64], first: int, steps: int) -> bool:
    at = int(np.searchsorted(visible, first))
    return at + steps <= len(visible) and int(visible[at + steps - 1]) == first + steps - 1


def _in_a_row(visible: NDArray[np.int64], steps: int) -> bool:
    return any(_seen(visible, int(at), steps) for at in visible[1:])


class Samples(ImageSet):
    """Canvases and boxes, cut when they are asked for. targets: float32 ``[M, 4]``, or ``[M, T, 4]`` of several windows."""

    scale = 1.0

    def __init__(self, source: TrackSource, frames: Frames, samples: Sequence[Sample]) -> None:
        self.source, self.made, self.samples = source, frames, tuple(samples)
        self.sequences = source.steps > 1
        framing = frames.recordings.framing
        side = source.search + source.template
        self.shape = (len(framing.representation.channels), side, side)
        self.frames = framing.record() | {"steps": source.steps}
        boxes = frames.recordings.boxes
        rows = [
            [region.within(boxes[s.sequence][at]) for at, region in zip(s.search, s.regions[1:], strict=True)]
            for s in self.samples
        ]
        targets = torch.tensor(rows, dtype=torch.float32).reshape(len(rows), source.steps, 4)
        self.targets = targets if self.sequences else targets[:, 0]

    def __getitems__(self, indices: Indices) -> tuple[Tensor, Tensor]:
        index = torch.as_tensor(indices, dtype=torch.int64)
        whole = self.made.recordings.framing.representation.whole
        canvases = []
        for i in index.tolist():
            sample = self.samples[i]
            frames = self.made(sample.sequence)
            template = cut(frames[sample.template], sample.regions[0], whole)
            steps = [
                canvas(cut(frames[at], region, whole), template)
                for at, region in zip(sample.search, sample.regions[1:], strict=True)
            ]
            canvases.append(torch.stack(steps) if self.sequences else steps[0])
        shape = (0, *([self.source.steps] if self.sequences else []), *self.shape)
        return torch.stack(canvases) if canvases else torch.zeros(shape), self.targets[index]

    def subset(self, indices: Indices) -> Samples:
        index = torch.as_tensor(indices, dtype=torch.int64).tolist()
        return Samples(self.source, self.made, [self.samples[i] for i in index])


def framing_of(source: TrackSource, window_us: int, height: int, width: int) -> Framing:
    """How frames of a source's sequences are made."""
    return Framing(source.representation, ByTime(duration_us=window_us), height, width)
