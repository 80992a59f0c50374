"""N-CARS: cars and other things seen from a driving car."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from saccade.data.event_frames import EventSource
from saccade.data.event_lists import by_class
from saccade.data.placed import unpack_placed
from saccade.data.source import DATA_SETS, Parts, Report

CLASSES = ("background", "cars")


@dataclass(frozen=True)
class NCars(EventSource):
    """15,422 + 8,607 recordings of up to 120 x 100 pixels, 0.1 s each, of cars or none (Sironi et al. 2018).

    Layout: train/cars, train/background, test/cars and test/background, with .dat files, as in the published archives
    n-cars_train and n-cars_test, whose folders may also keep those names. Recordings lie in the top left of the sensor.
    """

    summary: ClassVar[str] = "N-CARS: 15,422 + 8,607 event recordings of 120x100, {cars,background}/*.dat in n-cars"
    sensor: ClassVar[tuple[int, int]] = (100, 120)

    def read(self, root: Path) -> Parts:
        train, test = (by_class(_part(root / "n-cars", name), CLASSES, {".dat"}) for name in ("train", "test"))
        return self.parts(train, test, CLASSES)

    def prepare(self, root: Path, report: Report) -> Path:
        address = "https://www.prophesee.ai/2018/03/13/dataset-n-cars/"
        names = [_part(root / "n-cars", name).name for name in ("train", "test")]
        return unpack_placed("n-cars", root, "n-cars", ("Prophesee_Dataset_n_cars.zip",), names, address, report)


def _part(folder: Path, name: str) -> Path:
    plain = folder / name
    return plain if plain.is_dir() else folder / f"n-cars_{name}"


DATA_SETS.register("n-cars", NCars())
