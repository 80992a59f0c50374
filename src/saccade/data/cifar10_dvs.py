"""CIFAR10-DVS: images of CIFAR-10 that move on a screen before an event camera."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from saccade.data.cifar_names import CIFAR10_CLASSES
from saccade.data.event_frames import Clip, EventSource
from saccade.data.event_lists import by_class
from saccade.data.placed import unpack_placed
from saccade.data.source import DATA_SETS, Parts, Report


@dataclass(frozen=True)
class Cifar10Dvs(EventSource):
    """10 classes of 1,000 recordings of 128 x 128 pixels, about 1.3 s each (Li et al. 2017).

    Layout, as published: CLASS/cifar10_CLASS_NUMBER.aedat (AEDAT 2.0). There is no official split: the first 90 % of a class,
    by number, are to learn from and the rest is to be tested on (as Fang et al. 2021, SEW-ResNet). Rows and columns are
    exchanged after decoding, as all published runs have them.
    """

    summary: ClassVar[str] = (
        "CIFAR10-DVS: 10 x 1,000 event recordings of 128x128, CLASS/*.aedat in cifar10-dvs; split 9:1 by number"
    )
    sensor: ClassVar[tuple[int, int]] = (128, 128)
    transpose: ClassVar[bool] = True

    def read(self, root: Path) -> Parts:
        clips = by_class(root / "cifar10-dvs", CIFAR10_CLASSES, {".aedat"})
        train, test = first_of_each(clips, 0.9)
        return self.parts(train, test, CIFAR10_CLASSES)

    def prepare(self, root: Path, report: Report) -> Path:
        address = "https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671"
        archives = tuple(f"{name}.zip" for name in CIFAR10_CLASSES)
        return unpack_placed("cifar10-dvs", root, "cifar10-dvs", archives, CIFAR10_CLASSES, address, report)


def first_of_each(clips: list[Clip], share: float) -> tuple[list[Clip], list[Clip]]:
    """The first ``share`` of the samples of each class, rounded down, and the rest; in order."""
    sizes: dict[int, int] = {}
    for clip in clips:
        sizes[clip.label] = sizes.get(clip.label, 0) + 1
    seen = dict.fromkeys(sizes, 0)
    first: list[Clip] = []
    rest: list[Clip] = []
    for clip in clips:
        (first if seen[clip.label] < int(share * sizes[clip.label]) else rest).append(clip)
        seen[clip.label] += 1
    return first, rest


DATA_SETS.register("cifar10-dvs", Cifar10Dvs())
