"""N-Caltech101: images of Caltech101 before an event camera that moves in three saccades."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from saccade.data.event_frames import EventSource
from saccade.data.event_lists import by_class, class_folders
from saccade.data.placed import unpack_placed
from saccade.data.source import DATA_SETS, Parts, Report
from saccade.data.split import stratified, without

_SPLIT = 6  # first part of the key of the draw: those of other draws are others


@dataclass(frozen=True)
class NCaltech101(EventSource):
    """8,709 recordings of up to 240 x 180 pixels, about 0.3 s each, in 101 classes (Orchard et al. 2015).

    Layout, as published: Caltech101/CLASS/image_NUMBER.bin; the classes are the folders, sorted. There is no official split:
    10 % of each class, drawn by ``split_seed``, are to be tested on. Recordings lie in the top left of the sensor.
    """

    summary: ClassVar[str] = "N-Caltech101: 8,709 event recordings of 240x180, CLASS/*.bin in n-caltech101/Caltech101"
    sensor: ClassVar[tuple[int, int]] = (180, 240)
    split_seed: int = 0

    def read(self, root: Path) -> Parts:
        folder = root / "n-caltech101" / "Caltech101"
        classes = class_folders(folder)
        clips = by_class(folder, classes, {".bin"})
        labels = torch.tensor([clip.label for clip in clips])
        test = stratified(labels, len(clips) // 10, _SPLIT, self.split_seed)
        train = without(len(clips), test)
        return self.parts([clips[i] for i in train.tolist()], [clips[i] for i in test.tolist()], classes)

    def prepare(self, root: Path, report: Report) -> Path:
        address = "https://www.garrickorchard.com/datasets/n-caltech101"
        archives = ("Caltech101.zip", "N-Caltech101-archive.zip")
        return unpack_placed("n-caltech101", root, "n-caltech101", archives, ("Caltech101",), address, report)


DATA_SETS.register("n-caltech101", NCaltech101())
