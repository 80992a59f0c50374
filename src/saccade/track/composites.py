"""Made sequences whose boxes are exactly known: a digit that moves among others and noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from saccade.data.event_frames import EventFrames, EventSource, Reader
from saccade.data.frame_cache import digest_of
from saccade.data.imageset import ArraySet
from saccade.data.source import DATA_SETS, Parts, Report
from saccade.events import EventStream, FrameStream
from saccade.events.composites import Composite, composite
from saccade.events.scenes import moving, resized
from saccade.events.simulate import simulate
from saccade.events.windows import AtStamps
from saccade.track.boxes import Boxes
from saccade.track.sequences import Positive, TrackSource, framing_of

SIDE = 34  # pixels of a recording of N-MNIST, and of a digit before a simulated camera
BEFORE = 20  # pixels of its digit


@dataclass(frozen=True)
class Composites(TrackSource):
    """One digit to follow and others that distract, each enlarged, moving on smooth random paths of their own, and noise.

    recordings: "nmnist-small", real recordings (the test sequences show digits that training does not); or "digits", those of
    scikit-learn before a simulated camera, which need no file. train_sequences, test_sequences: as many as wanted, each of
    seeds that depend on its number alone. noise_hz: events a second and pixel. The rest as ``events.composites.composite``.
    """

    summary: ClassVar[str] = (
        "Made tracking sequences: a moving digit among others, with exact boxes (nmnist-small, or made)"
    )
    recordings: Literal["nmnist-small", "digits"] = "nmnist-small"
    train_sequences: Positive = 200
    test_sequences: Positive = 16
    windows: Positive = 24
    window_us: Positive = 20_000
    height: Positive = 128
    width: Positive = 128
    distractors: Annotated[int, Field(ge=0, le=16)] = 1
    noise_hz: Annotated[float, Field(ge=0)] = 1.0

    def read(self, root: Path) -> Parts:
        train, test = self.parts(root)
        return Parts(self.samples(train, self.pairs, 0), self.samples(test, self.test_pairs, 1))

    def prepare(self, root: Path, report: Report) -> Path:
        return DATA_SETS[self.recordings].prepare(root, report)

    def parts(self, root: Path) -> tuple[CompositeRecordings, CompositeRecordings]:
        """The sequences to learn from, and those to test on."""
        counts = self.train_sequences, self.test_sequences
        made = [
            CompositeRecordings(self, cast, count, part)
            for part, (cast, count) in enumerate(zip(self._casts(root), counts, strict=True))
        ]
        return made[0], made[1]

    def _casts(self, root: Path) -> list[Cast]:
        if self.recordings == "digits":
            parts = DATA_SETS["digits"].read(root)
            return [SimulatedCast(part) for part in (parts.train, parts.test) if isinstance(part, ArraySet)]
        source = DATA_SETS[self.recordings]
        assert isinstance(source, EventSource)
        found = replace(source, cache=False).read(root)
        parts_of = [part.reader for part in (found.train, found.test) if isinstance(part, EventFrames)]
        return [RecordedCast(reader) for reader in parts_of if isinstance(reader, Reader)]


class Cast:
    """Recordings of what moves."""

    def __len__(self) -> int:
        raise NotImplementedError

    def events(self, index: int) -> EventStream:
        raise NotImplementedError

    def made_of(self) -> Any:
        raise NotImplementedError


class RecordedCast(Cast):
    """Recordings from files."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def __len__(self) -> int:
        return len(self.reader)

    def events(self, index: int) -> EventStream:
        return self.reader.open(self.reader.clips[index].path)

    def made_of(self) -> Any:
        return [digest_of(clip.path) for clip in self.reader.clips]


class SimulatedCast(Cast):
    """Digits before a simulated camera that moves as that of N-MNIST did."""

    def __init__(self, images: ArraySet) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def events(self, index: int) -> EventStream:
        grey = resized(self.images.images[index].double().numpy() / 255, BEFORE, BEFORE)
        room = (SIDE + 8 - BEFORE) // 2
        picture = np.pad(grey[0], room)
        scene = moving(picture, SIDE, SIDE, amplitude=4.0, duration_us=300_000, step_us=5_000)
        return simulate(scene, {"name": "dvs", "config": {"noise_hz": 0.0, "leak_hz": 0.0}}, seed=index)

    def made_of(self) -> Any:
        return [len(self.images), int(self.images.images.long().sum())]


class CompositeRecordings:
    """The sequences of one part."""

    def __init__(self, source: Composites, cast: Cast, count: int, part: int) -> None:
        self.source, self.cast, self.count, self.part = source, cast, count, part
        self.framing = framing_of(source, source.window_us, source.height, source.width)
        self.boxes: list[Boxes] = []
        self._frames: list[Tensor] = []
        for number in range(count):  # the boxes are those of the events, so all are made once
            found = self.composite(number)
            self.boxes.append(as_boxes(found))
            self._frames.append(self._made(found))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        return self._frames[index]

    def composite(self, number: int) -> Composite:
        """The events of a sequence, with what is known of them."""
        s = self.source
        draw = np.random.default_rng((self.part, number, 7))
        chosen = draw.choice(len(self.cast), 1 + s.distractors, replace=False)
        target, *others = (self.cast.events(int(i)) for i in chosen)
        return composite(
            target,
            tuple(others),
            seed=int(draw.integers(1 << 62)),
            height=s.height,
            width=s.width,
            windows=s.windows,
            window_us=s.window_us,
            noise_hz=s.noise_hz,
        )

    def _made(self, found: Composite) -> Tensor:
        windows = AtStamps(stamps_us=tuple(found.stamps_us.tolist()))
        frames = FrameStream(self.source.representation, self.source.height, self.source.width)
        made = frames.frames(found.events, windows)
        return made.byte() if self.source.representation.high == 255.0 else made

    def made_of(self) -> Any:
        settings = self.source.settings()
        return [self.cast.made_of(), self.count, self.part, {key: settings[key] for key in ("windows", "noise_hz")}]


def as_boxes(found: Composite) -> Boxes:
    """Boxes ``[T, 4]`` as left, top, width, height; NaN in windows without an event of the target."""
    left, top, right, bottom = found.boxes.T
    return np.stack([left, top, right - left, bottom - top], 1)


DATA_SETS.register("composites", Composites())
