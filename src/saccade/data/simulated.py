"""Images before a simulated event camera."""

import hashlib
import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from saccade.data.event_frames import EventSource
from saccade.data.imageset import ImageSet
from saccade.data.source import DATA_SETS, DataSource, Parts, Report
from saccade.events import EventStream
from saccade.events.framing import Framing
from saccade.events.scenes import moving
from saccade.events.simulate import CAMERAS, Camera, simulate
from saccade.events.windows import WINDOWS, Windows

BLOCK = 64  # images that are simulated together; thresholds and noise depend on the number of an image and on this
Pixels = Annotated[int, Field(ge=1, le=1024)]


@dataclass(frozen=True)
class Simulated(EventSource):
    """A set of images that move before a simulated event camera: see ``saccade.events.simulate`` and ``scenes.moving``.

    images: the set (grey, or its luma), e.g. cifar10. height, width: of the sensor, in pixels. path: "saccades", as N-MNIST was
    recorded, or "loop", as CIFAR10-DVS. amplitude: pixels. Simulating 1,000 digits takes about 3 s, and as the frames are kept
    it is done once.
    """

    summary: ClassVar[str] = "Images of another set before a simulated event camera, e.g. digits (default) or cifar10"
    windows: Windows = field(
        default_factory=lambda: WINDOWS["time"].changed("time", {"duration_us": 30_000, "frames": 10})
    )
    images: DataSource = field(default_factory=lambda: DATA_SETS["digits"])
    camera: Camera = CAMERAS["dvs"]
    height: Pixels = 16
    width: Pixels = 16
    path: Literal["saccades", "loop"] = "saccades"
    amplitude: Annotated[float, Field(ge=0, le=256)] = 3.0
    duration_us: Annotated[int, Field(ge=1)] = 300_000
    step_us: Annotated[int, Field(ge=1)] = 5_000

    def framing(self) -> Framing:
        return Framing(self.representation, self.windows, self.height, self.width, self.binning)

    def read(self, root: Path) -> Parts:
        found = self.images.read(root)
        if any(part is not None and part.sequences for part in found):
            raise ValueError(f"simulated: {self.images.kind()} are sequences; a camera looks at static images")
        parts = [None if part is None else self._seen(part, number) for number, part in enumerate(found)]
        return Parts(*parts)  # type: ignore[arg-type]

    def _seen(self, images: ImageSet, number: int) -> ImageSet:
        return self.frames_by(_Seen(self, images, number), images.targets, images.classes)

    def prepare(self, root: Path, report: Report) -> Path:
        return self.images.prepare(root, report)


class _Seen:
    """Frames of what the camera records of the images of a set."""

    def __init__(self, source: Simulated, images: ImageSet, number: int) -> None:
        self.source, self.images, self.number, self.framing = source, images, number, source.framing()
        self._block: tuple[int, list[EventStream]] = (-1, [])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        block, place = divmod(index, BLOCK)
        if self._block[0] != block:
            self._block = (block, self._recorded(block))
        return self.framing.frames(self._block[1][place])

    def _recorded(self, block: int) -> list[EventStream]:
        """The recordings of a block of images, which the camera sees one above the other."""
        s = self.source
        pixels = self._pixels(range(block * BLOCK, min((block + 1) * BLOCK, len(self))))
        scene = moving(pixels, s.height, s.width, s.path, s.amplitude, s.duration_us, s.step_us)
        events = simulate(scene, s.camera, seed=2 * block + min(self.number, 1))
        which, row = np.divmod(events.y.astype(np.int64), s.height)
        order = np.argsort(which, kind="stable")
        knots = np.searchsorted(which[order], np.arange(len(pixels) + 1))
        made = []
        for first, last in itertools.pairwise(knots):
            at = order[first:last]
            made.append(
                EventStream(events.t[at], events.x[at], row[at].astype(np.uint16), events.p[at], s.height, s.width)
            )
        return made

    def _pixels(self, numbers: range) -> NDArray[np.float64]:
        """Grey pictures ``[N, h, w]`` in [0, 1]."""
        from saccade.events.scenes import grey

        pictures, _ = self.images.__getitems__(torch.arange(numbers.start, numbers.stop))
        values = pictures.double().numpy() / self.images.scale
        return values[:, 0] if values.shape[1] != 3 else np.stack([grey(one.transpose(1, 2, 0)) for one in values])

    def made_of(self) -> Any:
        """The pixels, and what the camera is and does."""
        digest = hashlib.sha256()
        for first in range(0, len(self), 4096):
            numbers = torch.arange(first, min(first + 4096, len(self)))
            digest.update(self.images.__getitems__(numbers)[0].numpy().tobytes())
        settings = self.source.settings()
        return [
            digest.hexdigest(),
            self.number,
            {key: settings[key] for key in settings if key not in ("images", "cache")},
        ]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_block": (-1, [])}


DATA_SETS.register("simulated", Simulated())
