"""N-MNIST: the digits of MNIST before an event camera that moves in three saccades."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from saccade.data.digits import DIGIT_NAMES
from saccade.data.event_frames import Clip, EventSource
from saccade.data.event_lists import by_class
from saccade.data.placed import unpack_placed
from saccade.data.source import DATA_SETS, Parts, Report

_ARCHIVES = ("Train.zip", "Test.zip")
_SMALL = ("nmnist-small.tar.xz", "NMNISTsmall.zip", "events/nmnist-small.tar.xz")
_LISTS = ("train1K.txt", "test100.txt")


@dataclass(frozen=True)
class NMnist(EventSource):
    """Recordings of 34 x 34 pixels, about 0.3 s and 4,000 events each (Orchard et al. 2015). CC BY-SA 4.0.

    Layout, as published: Train/0 to Train/9 and Test/0 to Test/9, with .bin files.
    """

    summary: ClassVar[str] = "N-MNIST: 60,000 + 10,000 event recordings of 34x34, Train/DIGIT/*.bin in nmnist"
    sensor: ClassVar[tuple[int, int]] = (34, 34)

    def read(self, root: Path) -> Parts:
        folder = root / "nmnist"
        train, test = (by_class(folder / name, DIGIT_NAMES, {".bin"}) for name in ("Train", "Test"))
        return self.parts(train, test, DIGIT_NAMES)

    def prepare(self, root: Path, report: Report) -> Path:
        address = "https://www.garrickorchard.com/datasets/n-mnist"
        return unpack_placed("nmnist", root, "nmnist", _ARCHIVES, ("Train", "Test"), address, report)


@dataclass(frozen=True)
class NMnistSmall(NMnist):
    """1,000 + 100 recordings of N-MNIST, as the examples of SLAYER (Shrestha and Orchard 2018) come with them.

    Layout: NUMBER.bs2, and the lists train1K.txt and test100.txt of numbers and digits.
    """

    summary: ClassVar[str] = "A part of N-MNIST: 1,000 + 100 recordings, NUMBER.bs2 with their lists in nmnist-small"

    def read(self, root: Path) -> Parts:
        folder = root / "nmnist-small"
        return self.parts(_listed(folder, _LISTS[0]), _listed(folder, _LISTS[1]), DIGIT_NAMES)

    def prepare(self, root: Path, report: Report) -> Path:
        address = "https://github.com/bamsumit/slayerPytorch (example/02_NMNIST)"
        return unpack_placed("nmnist-small", root, "nmnist-small", _SMALL, _LISTS, address, report)


def _listed(folder: Path, name: str) -> list[Clip]:
    """The recordings of a list: lines of a number and a digit. Raises FileNotFoundError, ValueError naming the line."""
    try:
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"{folder / name}: no such file; `saccade data prepare nmnist-small` says what belongs there"
        ) from None
    except UnicodeDecodeError:
        raise ValueError(f"{folder / name}: is no list of recordings") from None
    clips = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or not words[0].isdecimal() or words[1] not in DIGIT_NAMES:
            raise ValueError(f"{folder / name}: line {number} is no number and digit: {line[:60]!r}")
        clips.append(Clip(folder / f"{words[0]}.bs2", int(words[1])))
    return clips


DATA_SETS.register("nmnist", NMnist())
DATA_SETS.register("nmnist-small", NMnistSmall())
