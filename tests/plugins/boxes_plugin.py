"""What a package of somebody else adds: made images with a box in each, a network that says where, a task, a stage, a section.

Importing this registers all of it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from saccade.data import DATA_SETS, ArraySet, DataSource, Parts
from saccade.data.augment import random_flip
from saccade.experiment import STAGES, StageConfig
from saccade.layers import Linear
from saccade.models import ModelCard, ModelConfig, Normalise, SpikingModel, register
from saccade.neurons import NEURONS
from saccade.report import fill, section
from saccade.train import TASKS, Metrics, Score, Task, TaskConfig


@dataclass(frozen=True)
class MadeBoxes(DataSource):
    """Grey images of ``side`` pixels with a bright box each; targets float32 [M, 4]: left, top, right, bottom in [0, 1]."""

    summary: ClassVar[str] = "Made images with a bright box each"
    images: int = 160
    side: int = 12

    def read(self, root: Path) -> Parts:
        return Parts(self._make(self.images, 0), self._make(self.images // 2, 1))

    def _make(self, count: int, seed: int) -> ArraySet:
        generator = torch.Generator().manual_seed(seed)
        first = torch.randint(0, self.side // 2, (count, 2), generator=generator)
        last = first + torch.randint(2, self.side // 2, (count, 2), generator=generator)
        at = torch.arange(self.side)
        columns, rows = ((at >= first[:, i : i + 1]) & (at < last[:, i : i + 1]) for i in (0, 1))
        images = 20 + 220 * (rows[:, :, None] & columns[:, None, :]).to(torch.uint8)
        return ArraySet(images.unsqueeze(1), torch.cat([first, last], 1) / self.side)


@dataclass(frozen=True)
class BoxNetConfig(ModelConfig):
    """side: of the images, in pixels."""

    T: int = 2
    side: int = 12

    def build(self):
        return BoxNet(self)


class BoxNet(SpikingModel):
    """Two linear layers around neurons; the output is boxes [T, N, 4]."""

    def __init__(self, config: BoxNetConfig) -> None:
        super().__init__(config, Normalise(1), (config.side, config.side))
        self.first, self.second = Linear(config.side**2, 32), Linear(32, 4)
        self.neuron = NEURONS["tet"].build(channels=32)

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        return self.second(self.neuron(self.first(self.in_time(x, T).flatten(2) * 3)))


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes [N, 4]."""
    inner = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    areas = [(box[:, 2:] - box[:, :2]).clamp(min=0).prod(1) for box in (a, b)]
    return inner / (areas[0] + areas[1] - inner).clamp(min=1e-6)


class Overlaps(Metrics):
    def __init__(self) -> None:
        super().__init__(iou=torch.tensor(0.0), distance=torch.tensor(0.0), total=torch.tensor(0))

    def update(self, output, target):
        box = output.float().mean(0)
        self.sums["iou"] = self.sums["iou"] + overlap(box, target).sum()
        self.sums["distance"] = self.sums["distance"] + (box - target).abs().mean(1).sum()
        self.sums["total"] = self.sums["total"] + len(target)

    def result(self):
        total = max(int(self.sums["total"]), 1)
        return {"mean_iou": float(self.sums["iou"]) / total, "distance": float(self.sums["distance"]) / total}


class BoxTask(Task):
    scores = (Score("mean_iou"), Score("distance", "min"))

    def __init__(self, config: "Boxes") -> None:
        self.config = config

    def loss(self, output, target):
        box = output.float().mean(0)
        return (box - target).abs().mean() if self.config.loss == "l1" else 1 - overlap(box, target).mean()

    def metrics(self, training=False):
        return Overlaps()

    def augmentation(self, settings, images):
        if set(settings.names) - {"flip"}:
            return super().augmentation(settings, images)

        def flip(x, y):
            for name in settings.names:
                assert name == "flip"
                marked = torch.cat([x, torch.linspace(0, 1, x.shape[3]).expand_as(x[:, :1])], 1)
                marked = random_flip(marked)
                turned = (marked[:, -1, 0, 0] > 0.5)[:, None]
                x, y = (
                    marked[:, :-1],
                    torch.where(turned, torch.stack([1 - y[:, 2], y[:, 1], 1 - y[:, 0], y[:, 3]], 1), y),
                )
            return x, y

        return flip


@dataclass(frozen=True)
class Boxes(TaskConfig):
    """Say where something is."""

    loss: Literal["l1", "iou"] = "l1"

    def build(self, model, classes=()):
        return BoxTask(self)

    def check(self, model, splits):
        super().check(model, splits)
        if splits.test.targets.shape[1:] != (4,):
            raise ValueError("boxes are 4 numbers, and these images have other targets")


@dataclass(frozen=True)
class Largest(StageConfig):
    """boxes.json: how large the boxes are."""

    words: str = "largest"

    def run(self, finished):
        size = float((finished.splits.test.targets[:, 2:] - finished.splits.test.targets[:, :2]).prod(1).max())
        finished.run.write_json("boxes.json", {"words": self.words, "size": size})
        return {"largest": size}


@section("boxes.json")
def boxes_section(run, summary):
    record = run.read_json("boxes.json")
    return fill("<h2>Boxes</h2><p>{{ words }}: {{ '%.3f' % size }} of the image</p>", **record)


register(ModelCard("box_net", "for tests", "made for tests, in no paper on arXiv", (1, 12, 12), BoxNetConfig()))
DATA_SETS.register("made_boxes", MadeBoxes())
TASKS.register("boxes", Boxes())
STAGES.register("largest", Largest())
