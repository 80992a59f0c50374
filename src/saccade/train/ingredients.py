"""What training may add to a task: other images, more of a loss, something after every step. Recipes name them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from saccade.config import Config, Registry
from saccade.train.tasks import Task

INGREDIENTS: Registry[Ingredient] = Registry("training ingredient", "`saccade ingredients`")


@dataclass
class TrainingStep:
    """One step of training, as an ingredient sees it.

    images ``[N, ...]`` and target ``[N, ...]``, augmented. progress: how much of training is over, 0 .. 1. call: the model in
    training, ``images -> [T, N, ...]``, through which gradients reach its weights. output: what it made of the images.
    potentials: before their resets, ``[T, N, ...]`` by path of the neurons, for ingredients that ask for them.
    """

    model: nn.Module
    task: Task
    images: Tensor
    target: Tensor
    progress: float
    call: Callable[[Tensor], Tensor]
    output: Tensor | None = None
    potentials: dict[str, list[Tensor]] | None = None


@dataclass(frozen=True)
class Ingredient(Config):
    """Base of the ingredients: frozen settings with a name. What a subclass does not override changes nothing."""

    registry: ClassVar[Registry[Ingredient]] = INGREDIENTS
    wants_potentials: ClassVar[bool] = False

    def check(self, model: nn.Module, task: Task) -> None:
        """Raises ValueError, in one line, before training, for a model or a task that it does not go with."""

    def images(self, step: TrainingStep) -> Tensor:
        """The images that the model is trained on."""
        return step.images

    def loss(self, step: TrainingStep) -> Tensor | float:
        """What is added to the loss of the task."""
        return 0.0

    def after_step(self, model: nn.Module) -> None:
        """Called without gradients, after the optimizer has moved the weights."""
