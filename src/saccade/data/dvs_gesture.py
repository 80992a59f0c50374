"""DVS128 Gesture: hand and arm movements of 29 people before an event camera."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from saccade.data.event_frames import Clip, EventSource
from saccade.data.placed import unpack_placed
from saccade.data.source import DATA_SETS, Parts, Report

CLASSES = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter clockwise",
    "left arm clockwise",
    "left arm counter clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other gestures",
)
LISTS = ("trials_to_train.txt", "trials_to_test.txt")


@dataclass(frozen=True)
class DvsGesture(EventSource):
    """Recordings of 128 x 128 pixels in which every gesture lasts about 6 s (Amir et al. 2017). CC BY 4.0.

    Layout, as published: userNN_LIGHT.aedat (AEDAT 3.1), userNN_LIGHT_labels.csv with lines of class (1 to 11), start and end
    in microseconds, and the lists trials_to_train.txt (23 people) and trials_to_test.txt (6 people). A sample lasts from its
    start until before its end.
    """

    summary: ClassVar[str] = (
        "DVS128 Gesture: 11 gestures of 29 people, 128x128 events, *.aedat with labels and lists in DvsGesture"
    )
    sensor: ClassVar[tuple[int, int]] = (128, 128)

    def read(self, root: Path) -> Parts:
        folder = root / "DvsGesture"
        return self.parts(_listed(folder, LISTS[0]), _listed(folder, LISTS[1]), CLASSES)

    def prepare(self, root: Path, report: Report) -> Path:
        address = "https://research.ibm.com/interactive/dvsgesture/"
        return unpack_placed("dvs-gesture", root, "DvsGesture", ("DvsGesture.tar.gz",), LISTS, address, report)


def _listed(folder: Path, name: str) -> list[Clip]:
    """The samples of a list's recordings. Raises FileNotFoundError, ValueError naming file and line."""
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; `saccade data prepare dvs-gesture` says what belongs there")
    clips = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        recording = line.strip()
        if not recording:
            continue
        if Path(recording).name != recording:
            raise ValueError(f"{path}: names a file elsewhere: {recording[:80]!r}")
        clips += labels(folder / recording)
    if not clips:
        raise ValueError(f"{path}: names no recordings")
    return clips


def labels(recording: Path) -> list[Clip]:
    """The samples of a recording, by the file beside it. Raises FileNotFoundError, ValueError naming file and line."""
    path = recording.with_name(f"{recording.stem}_labels.csv")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; it says which gesture {recording.name} shows when")
    clips = []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for number, row in enumerate(csv.reader(file), 1):
            if number == 1 or not row:  # class,startTime_usec,endTime_usec
                continue
            try:
                label, start_us, stop_us = (int(word) for word in row)
            except ValueError:
                raise ValueError(f"{path}: line {number} is no class, start and end: {','.join(row)[:60]!r}") from None
            if not 1 <= label <= len(CLASSES) or stop_us < start_us:
                raise ValueError(f"{path}: line {number}: class {label} (1 to 11) from {start_us} to {stop_us} us")
            clips.append(Clip(recording, label - 1, start_us, stop_us))
    return clips


DATA_SETS.register("dvs-gesture", DvsGesture())
