"""Saying where what is: boxes with classes."""

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
from saccade.train.tasks.segmentation import palette

REACH = 4.0  # a size of 1 in the output's logarithm is that many cells
OVERLAPS = tuple(0.5 + 0.05 * i for i in range(10))
BINS = 1000  # of scores, in the sums from which precision is read


def boxes_of(output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of a read-out ``[N, 5 + K, h, w]`` for every cell, in raster order: boxes ``[N, hw, 4]`` (left, top, right, bottom as
    shares of the image), the logit that there is something ``[N, hw]``, logits of the classes ``[N, hw, K]``.

    Source: Redmon and Farhadi (2018), with one box a cell and a prior of four cells.
    """
    height, width = output.shape[-2:]
    rows, columns = torch.meshgrid(
        torch.arange(height, device=output.device), torch.arange(width, device=output.device), indexing="ij"
    )
    x = (output[:, 1].sigmoid() + columns) / width
    y = (output[:, 2].sigmoid() + rows) / height
    half = [output[:, 3 + i].clamp(-6, 4).exp() * (REACH / 2 / side) for i, side in enumerate((width, height))]
    boxes = torch.stack([x - half[0], y - half[1], x + half[0], y + half[1]], 1)
    return boxes.flatten(2).transpose(1, 2), output[:, 0].flatten(1), output[:, 5:].flatten(2).transpose(1, 2)


def overlaps(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes ``[..., 4]``, broadcast."""
    inner = _area(torch.cat([torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])], -1))
    return inner / (_area(a) + _area(b) - inner).clamp(min=1e-9)


def generalised(a: Tensor, b: Tensor) -> Tensor:
    """The overlap less the share of the smallest box around both that neither covers (Rezatofighi et al. 2019), in (-1, 1]."""
    iou = overlaps(a, b)
    around = _area(torch.cat([torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])], -1))
    union = (_area(a) + _area(b)) / (1 + iou)
    return iou - (around - union) / around.clamp(min=1e-9)


def _area(box: Tensor) -> Tensor:
    return (box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1)


def suppressed(boxes: Tensor, scores: Tensor, classes: Tensor, overlap: float) -> Tensor:
    """Indices, best first, of the boxes ``[M, 4]`` that no better one of their class overlaps by more than ``overlap``."""
    order = scores.argsort(descending=True, stable=True)
    boxes, classes = boxes[order], classes[order]
    close = (overlaps(boxes[:, None], boxes[None]) > overlap) & (classes[:, None] == classes[None])
    kept: list[int] = []
    for i in range(len(order)):
        if not close[i, kept].any():
            kept.append(i)
    return order[torch.tensor(kept, dtype=torch.int64)]


class AveragePrecision(Metrics):
    """How many found boxes of each score are right, by class and overlap: sums from which the average precision is read.

    As in COCO (Lin et al. 2014): a found box, best first, takes the free true box of its class and image that it overlaps most;
    it is right if that is enough; precision is made to fall and read at 101 recalls. Scores are told apart to a thousandth, so
    that sums can be added over batches and processes.
    """

    def __init__(self, task: DetectionTask) -> None:
        size = (task.count, len(OVERLAPS), BINS)
        right, wrong = (torch.zeros(size, dtype=torch.int64) for _ in range(2))
        super().__init__(right=right, wrong=wrong, true=torch.zeros(task.count, dtype=torch.int64))
        self.task = task

    def update(self, output: Tensor, target: Tensor) -> None:
        right, wrong, true = (torch.zeros_like(self.sums[name], device="cpu") for name in ("right", "wrong", "true"))
        for found, boxes in zip(self.task.found(output), target.cpu(), strict=True):
            boxes = boxes[boxes[:, 0] >= 0]
            for k in range(self.task.count):
                real, said = boxes[boxes[:, 0] == k][:, 1:], found[found[:, 5] == k]
                true[k] += len(real)
                if len(said):
                    _match(said, real, right[k], wrong[k])
        for name, value in (("right", right), ("wrong", wrong), ("true", true)):
            self.sums[name] = self.sums[name] + value.to(self.sums[name].device)

    def result(self) -> dict[str, Any]:
        """Means over classes that have true boxes: over the overlaps from 0.5 to 0.95 ("map"), at 0.5 ("map50"); by class
        ("ap", None for a class that has none)."""
        right, wrong, true = (self.sums[name].double().cpu() for name in ("right", "wrong", "true"))
        right, wrong = (part.flip(-1).cumsum(-1) for part in (right, wrong))  # from the best score on
        precision = (right / (right + wrong).clamp(min=1)).flip(-1).cummax(-1).values.flip(-1)
        recall = right / true.clamp(min=1)[:, None, None]
        grid = torch.linspace(0, 1, 101).double().expand(*recall.shape[:2], -1).contiguous()
        at = torch.searchsorted(recall.contiguous(), grid - 1e-12)
        read = torch.where(at < BINS, precision.gather(-1, at.clamp(max=BINS - 1)), 0.0).mean(-1)  # [K, overlaps]
        there = true > 0
        mean = read[there].mean(0) if there.any() else read.new_zeros(len(OVERLAPS))
        by_class = [float(row.mean()) if has else None for row, has in zip(read, there, strict=True)]
        return {"map": float(mean.mean()), "map50": float(mean[0]), "ap": by_class}


def _match(said: Tensor, real: Tensor, right: Tensor, wrong: Tensor) -> None:
    """Add found boxes ``[M, 6]``, best first, of one image and class to ``right`` and ``wrong``, ``[overlaps, bins]``."""
    bins = (said[:, 4] * BINS).long().clamp(0, BINS - 1).tolist()
    shared = overlaps(said[:, None, :4], real[None])
    for i, least in enumerate(OVERLAPS):
        free = torch.ones(len(real), dtype=torch.bool)
        for row, at in zip(shared, bins, strict=True):
            best = int((row * free).argmax()) if len(real) else -1
            if best >= 0 and free[best] and row[best] >= least:
                free[best] = False
                right[i, at] += 1
            else:
                wrong[i, at] += 1


class DetectionTask(Task):
    """Targets are boxes float32 ``[N, M, 5]``: class, left, top, right, bottom as shares of the image; class -1 for no box.
    The output is ``[T, N, 5 + K, h, w]`` (see ``models.spiking_fpn.Detector``).
    """

    scores = (Score("map", percent=True), Score("map50", percent=True))

    def __init__(self, config: Detection, model: nn.Module) -> None:
        self.config = config
        self.count: int = model.num_classes  # type: ignore[assignment]
        self.readout: str = model.readout  # type: ignore[assignment]
        self.names = config.names or tuple(str(k) for k in range(self.count))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of "there is something" over all cells; in the cells of true middles ``box`` times one minus the
        generalised overlap, and cross-entropy of the class. Each is a sum over the number of true boxes.

        A cell in which several middles lie answers for the last of them.
        """
        answer = read_out(output, self.readout)
        if answer.dim() != 4 or answer.shape[1] != 5 + self.count:
            raise ValueError(f"expected [T, N, {5 + self.count}, h, w], got {list(output.shape)}")
        boxes, something, classes = boxes_of(answer)
        image, row = (target[..., 0] >= 0).nonzero(as_tuple=True)
        true = target[image, row]
        height, width = answer.shape[-2:]
        x, y = ((true[:, 1 + i] + true[:, 3 + i]) / 2 for i in (0, 1))
        cell = (y * height).long().clamp(0, height - 1) * width + (x * width).long().clamp(0, width - 1)
        there = torch.zeros_like(something)
        there[image, cell] = 1.0
        count = max(len(true), 1)
        presence = F.binary_cross_entropy_with_logits(something, there, reduction="sum") / count
        if not len(true):
            return presence
        place = (1 - generalised(boxes[image, cell], true[:, 1:])).sum() / count
        kind = F.cross_entropy(classes[image, cell], true[:, 0].long(), reduction="sum") / count
        return presence + self.config.box * place + kind

    def found(self, output: Tensor) -> list[Tensor]:
        """For every image what is found, best first, ``[M, 6]``: box, score (something there, times the class), class."""
        boxes, something, classes = (part.cpu() for part in boxes_of(read_out(output.float(), self.readout)))
        best = classes.softmax(-1).max(-1)
        scores = something.sigmoid() * best.values
        found = []
        for box, score, kind in zip(boxes, scores, best.indices, strict=True):
            kept = (score >= self.config.least).nonzero().squeeze(1)
            kept = kept[suppressed(box[kept], score[kept], kind[kept], self.config.overlap)]
            found.append(torch.cat([box[kept], score[kept, None], kind[kept, None].to(box.dtype)], 1))
        return found

    def metrics(self, training: bool = False) -> Metrics:
        return AveragePrecision(self)

    def augmentation(self, settings: AugmentSettings, images: ImageSet) -> Augmentation:
        return flips if settings.names == ("flip",) else super().augmentation(settings, images)

    def predictions(self, output: Tensor, top: int) -> list[dict[str, Any]]:
        return [
            {
                "boxes": [
                    {"class": self.names[int(k)], "score": float(score), "box": [float(value) for value in box]}
                    for *box, score, k in boxes[:top].tolist()
                ]
            }
            for boxes in self.found(output)
        ]

    def describe_prediction(self, prediction: Mapping[str, Any]) -> str:
        said = (
            f"{one['class']} {one['score']:.1%} at {', '.join(f'{value:.2f}' for value in one['box'])}"
            for one in prediction["boxes"]
        )
        return "; ".join(said) or "nothing"

    def drawn(self, images: Tensor, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        truth = [boxes[boxes[:, 0] >= 0][:, [1, 2, 3, 4, 0, 0]] for boxes in target]
        sure = [boxes[boxes[:, 4] >= 0.3] for boxes in self.found(output)]
        return outlined(images, truth), outlined(images, sure)


def flips(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Each image and its boxes mirrored left to right, or not, at even odds."""
    mirrored = (torch.rand(len(x)) < 0.5).to(x.device).view(-1, 1, 1)
    other = torch.stack([y[..., 0], 1 - y[..., 3], y[..., 2], 1 - y[..., 1], y[..., 4]], -1)
    other = torch.where(y[..., :1] < 0, y, other)
    return torch.where(mirrored.unsqueeze(1), x.flip(3), x), torch.where(mirrored, other, y)


def outlined(images: Tensor, found: list[Tensor]) -> Tensor:
    """Images ``[N, 3, H, W]`` in [0, 1] with the outlines of boxes, ``[M, 6]`` with the class last, one pixel wide."""
    images = images.cpu().clone()
    colours, (height, width) = palette(256), images.shape[-2:]
    for image, boxes in zip(images, found, strict=True):
        for left, top, right, bottom, _, k in boxes.tolist():
            x0, x1 = (min(max(round(value * width), 0), width - 1) for value in (left, right))
            y0, y1 = (min(max(round(value * height), 0), height - 1) for value in (top, bottom))
            colour = colours[int(k) % 255 + 1].view(3, 1)
            for y in (y0, y1):
                image[:, y, x0 : x1 + 1] = colour
            for x in (x0, x1):
                image[:, y0 : y1 + 1, x] = colour
    return images


@dataclass(frozen=True)
class Detection(TaskConfig):
    """Say where what is: boxes with classes, average precision as in COCO.

    names: of the classes, for people. box: weight of the boxes in the loss. least: score from which a box counts as found.
    overlap: of a better box of its class, above which one is dropped.
    """

    names: tuple[str, ...] = ()
    box: Annotated[float, Field(ge=0)] = 2.0
    least: Annotated[float, Field(ge=0, le=1)] = 0.02
    overlap: Annotated[float, Field(ge=0, le=1)] = 0.5

    def build(self, model: nn.Module, classes: Sequence[str] = ()) -> DetectionTask:
        return DetectionTask(self, model)

    def check(self, model: nn.Module, splits: Splits) -> None:
        check_channels(model, splits)
        targets, count = splits.test.targets, model.num_classes
        if not targets.is_floating_point() or targets.dim() != 3 or targets.shape[2] != 5:
            raise ValueError(f"detection needs boxes float [M, boxes, 5], got {targets.dtype} {list(targets.shape)}")
        if targets.numel() and int(targets[..., 0].max()) >= count:  # type: ignore[operator]
            raise ValueError(f"the model has {count} classes, the targets have class {int(targets[..., 0].max())}")
        if self.names and len(self.names) != count:
            raise ValueError(f"{len(self.names)} names of classes for a model of {count}")


TASKS.register("detection", Detection())
