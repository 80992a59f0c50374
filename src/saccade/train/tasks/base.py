"""What the trainer, the evaluation, the stages, the report and the command line ask of a task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from saccade.config import Config, Registry
from saccade.data import Augmentation, AugmentSettings, ImageSet, Splits

TASKS: Registry[TaskConfig] = Registry("task", "`saccade tasks`")


class Score(NamedTuple):
    """A number that says how good a network is. ``best``: whether the largest or the smallest is the best."""

    name: str
    best: Literal["max", "min"] = "max"
    percent: bool = False

    def better(self, value: float, than: float | None) -> bool:
        """Whether a value beats another; anything beats None and NaN."""
        if than is None or math.isnan(than):
            return True
        return value > than if self.best == "max" else value < than

    def text(self, value: float | None) -> str:
        """For people."""
        if value is None:
            return "–"
        return f"{value:.2%}" if self.percent else f"{value:.4g}"


class Metrics:
    """Tensors that add up over batches and processes, and outlive an interruption; ``result`` makes numbers of them."""

    def __init__(self, **sums: Tensor) -> None:
        self.sums = sums

    def to(self, device: torch.device) -> None:
        self.sums = {name: value.to(device) for name, value in self.sums.items()}

    def update(self, output: Tensor, target: Tensor) -> None:
        """Add a batch: what the model returns for every step, ``[T, N, ...]``, and its targets ``[N, ...]``."""
        raise NotImplementedError

    def result(self) -> dict[str, Any]:
        """Numbers and lists by name, as JSON holds them; among them every score of the task."""
        raise NotImplementedError


class Task:
    """A task, fitted to a model and its data. ``output`` is what ``model(x, steps=True)`` returns, ``[T, N, ...]``; ``target``
    what the data set has for these images, ``[N, ...]``, after augmentation.

    ``scores``: what is told of every epoch; the first chooses the epoch.
    """

    scores: ClassVar[tuple[Score, ...]]

    @property
    def primary(self) -> Score:
        """The score by which an epoch is chosen."""
        return self.scores[0]

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """What training minimises, a scalar."""
        raise NotImplementedError

    def plain_loss(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss as it is reported, without what only helps training. An attack ascends it by changing the images."""
        return self.loss(output, target)

    def metrics(self, training: bool = False) -> Metrics:
        """Empty sums. ``training``: of the batches of an epoch, every step, so better cheap; its scores only are read."""
        raise NotImplementedError

    def augmentation(self, settings: AugmentSettings, images: ImageSet) -> Augmentation:
        """The random changes of a batch. Raises ValueError for what the task cannot say a target's part in.

        By default that is everything: a task whose targets do not move with the pixels has to say so.
        """
        if settings.names:
            raise ValueError(
                f"data.augment: this task does not say what becomes of a target under {', '.join(settings.names)}"
            )
        return _as_it_is

    def summary(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """What a run's summary says of the test set: numbers as ``test_NAME``, lists under their own names."""
        return {key if isinstance(value, list) else f"test_{key}": value for key, value in result.items()}

    def describe(self, result: Mapping[str, Any]) -> str:
        """A result in words."""
        return ", ".join(f"{score.name} {score.text(result[score.name])}" for score in self.scores)

    def predictions(self, output: Tensor, top: int) -> list[dict[str, Any]]:
        """For every sample what the network says, as JSON holds it. ``top``: of how many guesses, where a task has several."""
        return [{"output": values} for values in output.float().mean(0).tolist()]

    def describe_prediction(self, prediction: Mapping[str, Any]) -> str:
        """A prediction in words."""
        return ", ".join(f"{key} {value}" for key, value in prediction.items())

    def drawn(self, images: Tensor, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Images ``[N, 3, H, W]`` in [0, 1] with the truth, and with what the network says, drawn into them.

        Raises ValueError for a task whose targets cannot be drawn.
        """
        raise ValueError(f"{type(self).__name__} has nothing to draw into a picture")


def _as_it_is(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x, y


@dataclass(frozen=True)
class TaskConfig(Config):
    """The settings of a task, as recipes give them in ``task.config``. Registered, it is chosen by name."""

    registry: ClassVar[Registry] = TASKS

    def build(self, model: nn.Module, classes: Sequence[str] = ()) -> Task:
        """The task for a model and the class names of its data (none where targets are no class labels)."""
        raise NotImplementedError

    def check(self, model: nn.Module, splits: Splits) -> None:
        """Raises ValueError, in one line, if the model or the data do not fit the task."""
        check_channels(model, splits)


def check_channels(model: nn.Module, splits: Splits) -> None:
    """Raises ValueError if the images have another number of channels than a model that says its own takes."""
    takes, have = getattr(model, "in_channels", None), splits.test.shape[0]
    if takes is not None and takes != have:
        raise ValueError(f"the model takes {takes} channels, the images have {have}")
