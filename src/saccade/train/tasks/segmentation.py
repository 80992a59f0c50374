"""Saying of every pixel what it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.data import Augmentation, AugmentSettings, ImageSet, Splits
from saccade.train.losses import read_out
from saccade.train.tasks.base import TASKS, Metrics, Score, Task, TaskConfig, check_channels

UNLABELLED = 255  # in targets: counts nowhere


class PixelConfusion(Metrics):
    """``confusion[true, predicted]`` pixels of all images together."""

    def __init__(self, classes: int, readout: str) -> None:
        super().__init__(confusion=torch.zeros(classes, classes, dtype=torch.int64))
        self.readout = readout

    def update(self, output: Tensor, target: Tensor) -> None:
        classes = len(self.sums["confusion"])
        predicted, true = read_out(output.float(), self.readout).argmax(1), target.long()
        known = true != UNLABELLED
        pairs = torch.bincount(true[known] * classes + predicted[known], minlength=classes**2).view(classes, classes)
        self.sums["confusion"] = self.sums["confusion"] + pairs.to(self.sums["confusion"].device)

    def result(self) -> dict[str, Any]:
        """Intersection over union by class (None for one that is neither there nor predicted), and its mean."""
        confusion = self.sums["confusion"].double()
        both, total = confusion.diagonal(), float(confusion.sum())
        union = confusion.sum(0) + confusion.sum(1) - both
        ious = [float(b / u) if u else None for b, u in zip(both, union, strict=True)]
        known = [iou for iou in ious if iou is not None]
        mean = sum(known) / max(len(known), 1)
        return {"mean_iou": mean, "pixel_accuracy": float(both.sum()) / max(total, 1), "iou": ious}


class SegmentationTask(Task):
    """Targets are classes uint8 ``[N, H, W]``, 255 where none is known; the output is logits ``[T, N, K, H, W]``."""

    scores = (Score("mean_iou", percent=True), Score("pixel_accuracy", percent=True))

    def __init__(self, config: Segmentation, model: nn.Module) -> None:
        self.count: int = model.num_classes  # type: ignore[assignment]
        self.readout: str = model.readout  # type: ignore[assignment]
        self.names = config.names or tuple(str(k) for k in range(self.count))
        self.weights = config.weights

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        logits = read_out(output, self.readout)
        if logits.shape[:1] + logits.shape[2:] != target.shape:
            raise ValueError(f"logits [T, N, K, H, W] do not fit classes {list(target.shape)}: {list(output.shape)}")
        weight = logits.new_tensor(self.weights) if self.weights else None
        return F.cross_entropy(logits, target.long(), weight, ignore_index=UNLABELLED)

    def metrics(self, training: bool = False) -> Metrics:
        return PixelConfusion(self.count, self.readout)

    def augmentation(self, settings: AugmentSettings, images: ImageSet) -> Augmentation:
        return flips if settings.names == ("flip",) else super().augmentation(settings, images)

    def predictions(self, output: Tensor, top: int) -> list[dict[str, Any]]:
        """The share of the image that each of the largest ``top`` classes takes."""
        found = read_out(output, self.readout).argmax(1).flatten(1)
        shares = F.one_hot(found, self.count).double().mean(1)
        best = shares.topk(min(top, self.count))
        return [
            {"classes": [{"class": self.names[int(k)], "share": float(p)} for p, k in zip(*row, strict=True)]}
            for row in zip(best.values, best.indices, strict=True)
        ]

    def describe_prediction(self, prediction: Mapping[str, Any]) -> str:
        return ", ".join(f"{part['class']} {part['share']:.1%}" for part in prediction["classes"] if part["share"])

    def drawn(self, images: Tensor, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return painted(images, target), painted(images, read_out(output, self.readout).argmax(1))


def flips(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Each image and its classes mirrored left to right, or not, at even odds."""
    mirrored = (torch.rand(len(x)) < 0.5).to(x.device).view(-1, 1, 1)
    return torch.where(mirrored.unsqueeze(1), x.flip(3), x), torch.where(mirrored, y.flip(2), y)


def palette(count: int) -> Tensor:
    """A colour for each class, float ``[count, 3]``; hues by the golden section, the first one grey."""
    hues = torch.arange(count).double() * 0.61803 % 1
    colours = (torch.stack([hues, hues - 1 / 3, hues - 2 / 3], 1) * 2 * torch.pi).cos() * 0.45 + 0.55
    colours[0] = 0.5
    return colours.float()


def painted(images: Tensor, classes: Tensor) -> Tensor:
    """Images ``[N, 3, H, W]`` in [0, 1] with the colours of classes ``[N, H, W]`` half over them, the first class clear."""
    colours = palette(256)[classes.long().cpu()].movedim(-1, 1)
    over = (classes.cpu() > 0).unsqueeze(1) * 0.6
    return images.cpu() * (1 - over) + colours * over


@dataclass(frozen=True)
class Segmentation(TaskConfig):
    """Say of every pixel what it shows: cross-entropy of the read-out, mean intersection over union.

    names: of the classes, for people. weights: of each class in the loss. Pixels of class 255 count nowhere.
    """

    names: tuple[str, ...] = ()
    weights: tuple[Annotated[float, Field(ge=0)], ...] = ()

    def build(self, model: nn.Module, classes: Sequence[str] = ()) -> SegmentationTask:
        return SegmentationTask(self, model)

    def check(self, model: nn.Module, splits: Splits) -> None:
        check_channels(model, splits)
        targets, count = splits.test.targets, model.num_classes
        if targets.dtype != torch.uint8 or targets.dim() != 3:
            raise ValueError(f"segmentation needs classes uint8 [M, H, W], got {targets.dtype} {list(targets.shape)}")
        found = targets[targets != UNLABELLED]
        if found.numel() and int(found.max()) >= count:  # type: ignore[operator]
            raise ValueError(f"the model has {count} classes, the targets have class {int(found.max())}")
        for what, given in (("names", self.names), ("weights", self.weights)):
            if given and len(given) != count:
                raise ValueError(f"{len(given)} {what} of classes for a model of {count}")


TASKS.register("segmentation", Segmentation())
