"""Published sets of event recordings with a box a frame, in the folders in which they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from saccade.data.frame_cache import digest_of
from saccade.data.source import DATA_SETS, Parts
from saccade.events import EventStream, FrameStream, open_events
from saccade.events.formats.aedat4 import frame_stamps
from saccade.events.stream import first_backward
from saccade.events.windows import AtStamps
from saccade.track.boxes import Boxes
from saccade.track.results import read_boxes
from saccade.track.sequences import TrackSource, framing_of

TRUTH = ("groundtruth_rect.txt", "groundtruth.txt")


@dataclass(frozen=True)
class TrackFolder(TrackSource):
    """Folders ``train/SEQUENCE`` and ``test/SEQUENCE``, or ``SEQUENCE`` with lists ``train.txt`` and ``test.txt`` of names.

    A sequence holds ``events.aedat4`` (or ``SEQUENCE.aedat4``, or one recording of another format) and
    ``groundtruth_rect.txt`` or ``groundtruth.txt``: left, top, width, height a line. A box without an area means that the
    target is out of sight. Window k is what happens between stamps k and k + 1 of ``timestamps.txt`` (microseconds, one a
    line). Without that file the stamps are those at which the frames in an AEDAT 4 begin, if there are as many as boxes, or
    one more; else the recording is divided evenly.
    """

    folder: ClassVar[str] = ""
    sensor: ClassVar[tuple[int, int]] = (260, 346)
    window_us: ClassVar[int] = 25_000
    cache: bool = True

    def read(self, root: Path) -> Parts:
        place = root / self.folder
        train, test = (FolderRecordings(self, self.sequences_in(place, part)) for part in ("train", "test"))
        return Parts(self.samples(train, self.pairs, 0), self.samples(test, self.test_pairs, 1))

    def sequences_in(self, place: Path, part: str) -> list[Path]:
        """The folders of a part. Raises FileNotFoundError, saying what belongs where, and ValueError for a list with a gap."""
        inside, names = place / part, place / f"{part}.txt"
        if inside.is_dir():
            found = sorted(one for one in inside.iterdir() if one.is_dir() and not one.name.startswith("."))
        elif names.is_file():
            found = [place / name for name in names.read_text(encoding="utf-8").split()]
            gone = [one for one in found if not one.is_dir()]
            if gone:
                raise ValueError(f"{names}: names {gone[0].name}, and {gone[0]} is no folder")
        else:
            found = []
        if not found:
            raise FileNotFoundError(
                f"{place}: holds no {part} sequences; place them in {inside}/SEQUENCE (events.aedat4, groundtruth_rect.txt)"
            )
        return found


class FolderRecordings:
    """Sequences that lie in folders."""

    def __init__(self, source: TrackFolder, folders: Sequence[Path]) -> None:
        self.source, self.folders = source, list(folders)
        self.framing = framing_of(source, source.window_us, *source.sensor)
        self.boxes = [_truth(folder) for folder in self.folders]

    def __len__(self) -> int:
        return len(self.folders)

    def __getitem__(self, index: int) -> Tensor:
        events, stamps = self.events(index)
        frames = FrameStream(self.source.representation, events.height, events.width)
        return frames.frames(events, AtStamps(stamps_us=tuple(stamps.tolist())))

    def events(self, index: int) -> tuple[EventStream, NDArray[np.int64]]:
        """A recording and the stamps between its windows, one more than it has boxes. Raises ValueError naming the file."""
        folder, count = self.folders[index], len(self.boxes[index])
        path = _recording(folder)
        events = open_events(path, height=self.source.sensor[0], width=self.source.sensor[1])
        if not len(events):
            raise ValueError(f"{path}: holds no events")
        if (folder / "timestamps.txt").is_file():
            return events, _stamps(folder / "timestamps.txt", count, int(events.t[-1]))
        if path.suffix == ".aedat4" and len(stamps := frame_stamps(path)) in (count, count + 1):
            return events, _edges(path, stamps, count, int(events.t[-1]))
        edges = np.linspace(int(events.t[0]), int(events.t[-1]) + 1, count + 1)
        return events, edges.astype(np.int64)

    def made_of(self) -> Any:
        return [[digest_of(_recording(folder)), len(own)] for folder, own in zip(self.folders, self.boxes, strict=True)]


def _truth(folder: Path) -> Boxes:
    for name in TRUTH:
        if (folder / name).is_file():
            boxes = read_boxes(folder / name)
            boxes[~(boxes[:, 2:] > 0).all(1)] = np.nan
            return boxes
    raise FileNotFoundError(f"{folder}: holds neither {TRUTH[0]} nor {TRUTH[1]}")


def _recording(folder: Path) -> Path:
    named = [folder / "events.aedat4", folder / f"{folder.name}.aedat4"]
    others = sorted(file for file in folder.glob("*") if file.is_file() and file.suffix != ".txt")
    for path in (*(one for one in named if one.is_file()), *others):
        return path
    raise FileNotFoundError(f"{folder}: holds no recording (events.aedat4)")


def _stamps(path: Path, count: int, last: int) -> NDArray[np.int64]:
    words = path.read_text(encoding="utf-8").split()
    try:
        stamps = np.array([int(word) for word in words], np.int64)
    except (ValueError, OverflowError):
        raise ValueError(f"{path}: stamps are whole numbers, microseconds, one a line") from None
    return _edges(path, stamps, count, last)


def _edges(path: Path, stamps: NDArray[np.int64], count: int, last: int) -> NDArray[np.int64]:
    """One stamp more than there are boxes, from as many or one more."""
    if len(stamps) == count:  # the last frame has no successor
        stamps = np.append(stamps, max(last + 1, int(stamps[-1])))
    if len(stamps) != count + 1:
        raise ValueError(f"{path}: {len(stamps)} stamps for {count} boxes; as many, or one more, are wanted")
    if (back := first_backward(stamps)) is not None:
        raise ValueError(f"{path}: stamp {back + 1} runs back from {stamps[back - 1]} to {stamps[back]} us")
    return stamps


@dataclass(frozen=True)
class FE108(TrackFolder):
    """Zhang et al. (2021): 76 + 32 sequences of a DAVIS346."""

    summary: ClassVar[str] = (
        "FE108: 76 + 32 event tracking sequences of 346x260, SEQUENCE/events.aedat4 in fe108/train, /test"
    )
    folder: ClassVar[str] = "fe108"


@dataclass(frozen=True)
class VisEvent(TrackFolder):
    """Wang et al. (2023): 500 + 320 sequences, of which SDTrack takes the 205 + 172 with usable recordings."""

    summary: ClassVar[str] = (
        "VisEvent: event tracking sequences of 346x260, SEQUENCE/SEQUENCE.aedat4 in visevent/train, /test"
    )
    folder: ClassVar[str] = "visevent"


@dataclass(frozen=True)
class FELT(TrackFolder):
    """Wang et al. (2024): 520 + 222 long sequences of a DAVIS346."""

    summary: ClassVar[str] = "FELT: 520 + 222 long event tracking sequences of 346x260, in felt/train and felt/test"
    folder: ClassVar[str] = "felt"


for _name, _source in (("fe108", FE108()), ("visevent", VisEvent()), ("felt", FELT())):
    DATA_SETS.register(_name, _source)
