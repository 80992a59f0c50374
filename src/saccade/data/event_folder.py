"""Folders of event recordings: one folder a class."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from saccade.data.event_frames import Clip, EventSource
from saccade.data.event_lists import by_class, class_folders
from saccade.data.source import DATA_SETS, Parts, Report
from saccade.events import EventsWarning, common_format, open_events
from saccade.events.framing import Framing

Side = Annotated[int, Field(ge=1, le=1 << 16)]


@dataclass(frozen=True)
class EventFolder(EventSource):
    """Your own recordings, all of one format: train/CLASS/*, test/CLASS/* and, if wanted, validation/CLASS/*.

    height, width: of the sensor, in pixels; smaller recordings lie in its top left.
    """

    summary: ClassVar[str] = (
        "Your own event recordings: train/CLASS/* and test/CLASS/* (optionally validation/CLASS/*), height and width"
    )
    height: Side | None = None
    width: Side | None = None

    def framing(self) -> Framing:
        if self.height is None or self.width is None:
            raise ValueError("a folder of recordings needs height and width, the pixels of the sensor")
        return Framing(self.representation, self.windows, self.height, self.width, self.binning)

    def read(self, root: Path) -> Parts:
        self.framing()
        classes = class_folders(root / "train")
        train, test = (by_class(root / name, classes) for name in ("train", "test"))
        own = root / "validation"
        rest = by_class(own, classes) if own.is_dir() else None
        common_format(clip.path for clip in (*train, *test, *(rest or ())))
        parts = self.parts(train, test, classes)
        return parts if rest is None else parts._replace(validation=self.frames_of(rest, classes))

    def prepare(self, root: Path, report: Report) -> Path:
        """Reads every recording. Raises ValueError naming the first that cannot be read."""
        if not (root / "train").is_dir() or not (root / "test").is_dir():
            raise FileNotFoundError(
                f"{root}: a folder of recordings has train/CLASS/* and test/CLASS/*, optionally validation/CLASS/*: "
                "place your recordings there"
            )
        clips: list[Clip] = []
        classes = class_folders(root / "train")
        for name in ("train", "test", "validation"):
            if (root / name).is_dir():
                clips += by_class(root / name, classes)
        kind = common_format(clip.path for clip in clips)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EventsWarning)  # where no header says the size; it is said below
            sizes = {(events.height, events.width) for events in (open_events(clip.path) for clip in clips)}
        height, width = max(size[0] for size in sizes), max(size[1] for size in sizes)
        report(f"{root}: {len(clips):,} recordings of {kind.name}, up to {width} x {height} pixels, all readable")
        return root


DATA_SETS.register("event-folder", EventFolder())
