"""Naming what an image shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from saccade.data import Augmentation, AugmentSettings, ImageSet, Splits, build_augmentation
from saccade.train.losses import accuracy_count, loss_function, read_out
from saccade.train.tasks.base import TASKS, Metrics, Score, Task, TaskConfig, check_channels


class Hits(Metrics):
    """How many read-outs peak at the target (the larger part of a mixed one)."""

    def __init__(self, readout: str) -> None:
        super().__init__(correct=torch.tensor(0), total=torch.tensor(0))
        self.readout = readout

    def update(self, output: Tensor, target: Tensor) -> None:
        self.sums["correct"] = self.sums["correct"] + accuracy_count(output, target, self.readout)
        self.sums["total"] = self.sums["total"] + len(target)

    def result(self) -> dict[str, Any]:
        return _accuracy(int(self.sums["correct"]), int(self.sums["total"]))


class Confusion(Metrics):
    """``confusion[true, predicted]`` counts."""

    def __init__(self, classes: int, readout: str) -> None:
        super().__init__(confusion=torch.zeros(classes, classes, dtype=torch.int64))
        self.readout = readout

    def update(self, output: Tensor, target: Tensor) -> None:
        classes = len(self.sums["confusion"])
        predicted = read_out(output.float(), self.readout).argmax(-1)
        pairs = torch.bincount((target * classes + predicted).cpu(), minlength=classes**2).view(classes, classes)
        self.sums["confusion"] = self.sums["confusion"] + pairs.to(self.sums["confusion"].device)

    def result(self) -> dict[str, Any]:
        confusion = self.sums["confusion"]
        counts = _accuracy(int(confusion.diagonal().sum()), int(confusion.sum()))
        return counts | {"confusion": confusion.tolist()}


def _accuracy(correct: int, total: int) -> dict[str, Any]:
    return {"accuracy": correct / max(total, 1), "correct": correct, "total": total}


class ClassificationTask(Task):
    """Targets are class labels int64 ``[N]``, or shares ``[N, K]`` after mixing; the output is logits ``[T, N, K]``."""

    scores = (Score("accuracy", percent=True),)

    def __init__(self, config: Classification, model: nn.Module, classes: Sequence[str]) -> None:
        self.count: int = model.num_classes  # type: ignore[assignment]
        self.readout: str = model.readout  # type: ignore[assignment]
        if classes and len(classes) != self.count:
            raise ValueError(f"{len(classes)} names of classes for a model of {self.count}")
        self.classes = tuple(classes) or tuple(str(k) for k in range(self.count))
        self._loss = loss_function(
            config.loss, self.count, config.label_smoothing, self.readout, config.tet_lambda, config.tet_target
        )
        self._plain_loss = loss_function("ce" if config.loss == "tet" else config.loss, self.count, 0.0, self.readout)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return self._loss(output, target)

    def plain_loss(self, output: Tensor, target: Tensor) -> Tensor:
        return self._plain_loss(output, target)

    def metrics(self, training: bool = False) -> Metrics:
        return Hits(self.readout) if training else Confusion(self.count, self.readout)

    def augmentation(self, settings: AugmentSettings, images: ImageSet) -> Augmentation:
        frames = images.frames or {}
        return build_augmentation(
            settings.names,
            classes=self.count,
            shape=images.shape,
            crop_padding=settings.crop_padding,
            cutout_size=settings.cutout_size,
            mix_alpha=settings.mix_alpha,
            sequences=images.sequences,
            counts=frames.get("representation", {}).get("name") in ("count", "binary"),
        )

    def describe(self, result: Mapping[str, Any]) -> str:
        return f"accuracy {result['accuracy']:.2%} ({result['correct']} of {result['total']})"

    def predictions(self, output: Tensor, top: int) -> list[dict[str, Any]]:
        chances = read_out(output, self.readout).softmax(-1)
        best = chances.topk(min(top, self.count))
        return [
            {"classes": [{"class": self.classes[int(k)], "probability": float(p)} for p, k in zip(*row, strict=True)]}
            for row in zip(best.values, best.indices, strict=True)
        ]

    def describe_prediction(self, prediction: Mapping[str, Any]) -> str:
        return ", ".join(f"{guess['class']} {guess['probability']:.1%}" for guess in prediction["classes"])


@dataclass(frozen=True)
class Classification(TaskConfig):
    """Name what an image shows.

    ``loss``: "ce" (cross-entropy of the read-out), "mse" (read-out against one-hot) or "tet" (every step against the label,
    ``tet_lambda`` of it MSE towards ``tet_target``). ``label_smoothing``: share of the target spread over all classes.
    """

    loss: Literal["ce", "mse", "tet"] = "ce"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    tet_lambda: Annotated[float, Field(ge=0, le=1)] = 0.0
    tet_target: float = 1.0

    def build(self, model: nn.Module, classes: Sequence[str] = ()) -> ClassificationTask:
        return ClassificationTask(self, model, classes)

    def check(self, model: nn.Module, splits: Splits) -> None:
        check_channels(model, splits)
        classes = len(splits.test.classes)
        if not classes:
            raise ValueError("classification needs class labels, and these images have other targets")
        if model.num_classes != classes:
            raise ValueError(f"the model has {model.num_classes} classes, the images have {classes}")


TASKS.register("classification", Classification())
