"""Training on images that attacks made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from saccade.train.ingredients import INGREDIENTS, Ingredient, TrainingStep
from saccade.train.losses import read_out


@dataclass(frozen=True)
class AdversarialTraining(Ingredient):
    """Trains on images found by ``steps`` steps of signed gradients of the task's loss within ``eps``, from a random point.

    The attack runs in eval mode, so that no running statistic moves, and training on its images in training mode. step: of eps,
    None: 2.5 / steps, at most 1. start: deviation of a normal first point; None: uniform within ``eps``.
    Madry et al. (2018); the field's habit is 2 steps at 2/255, tests at 8/255.
    """

    eps: Annotated[float, Field(gt=0)] = 2 / 255
    steps: Annotated[int, Field(ge=1)] = 2
    step: float | None = None
    start: float | None = None
    low: float = 0.0
    high: float = 1.0

    def images(self, step: TrainingStep) -> Tensor:
        return self.found(step, lambda output: step.task.plain_loss(output, step.target))

    def found(self, step: TrainingStep, raised: Any) -> Tensor:
        """Images that raise a function of the output."""
        x0, size = step.images.detach(), self.eps * (min(2.5 / self.steps, 1.0) if self.step is None else self.step)
        away = self.eps * (torch.rand_like(x0) * 2 - 1) if self.start is None else self.start * torch.randn_like(x0)
        x = (x0 + away).clamp(self.low, self.high)
        weights = [p for p in step.model.parameters() if p.requires_grad]
        step.model.eval()
        try:
            for parameter in weights:
                parameter.requires_grad_(False)
            for _ in range(self.steps):
                x = x.detach().requires_grad_(True)
                (g,) = torch.autograd.grad(raised(step.call(x)), x)
                x = x.detach() + size * g.sign()
                x = torch.minimum(torch.maximum(x, x0 - self.eps), x0 + self.eps).clamp(self.low, self.high)
        finally:
            for parameter in weights:
                parameter.requires_grad_(True)
            step.model.train()
        return x.detach()


@dataclass(frozen=True)
class Trades(AdversarialTraining):
    """Trains on the images as they are, and adds ``beta`` times the divergence KL(clean || attacked) of the answers, on images
    that raise it. Zhang et al. (2019), TRADES."""

    beta: float = 6.0
    steps: Annotated[int, Field(ge=1)] = 5

    def check(self, model: Any, task: Any) -> None:
        if not hasattr(task, "readout"):
            raise ValueError("TRADES compares the classes that a network names, and this task has none")

    def images(self, step: TrainingStep) -> Tensor:
        return step.images

    def loss(self, step: TrainingStep) -> Tensor | float:
        readout = step.task.readout  # type: ignore[attr-defined]
        with torch.no_grad():
            step.model.eval()
            clean = read_out(step.call(step.images).float(), readout).softmax(-1)
            step.model.train()

        def divergence(output: Tensor, target: Tensor) -> Tensor:
            return F.kl_div(read_out(output.float(), readout).log_softmax(-1), target, reduction="batchmean")

        x = self.found(step, lambda output: divergence(output, clean))
        assert step.output is not None
        own = read_out(step.output.float(), readout).softmax(-1)
        return self.beta * divergence(step.call(x), own)


INGREDIENTS.register("adversarial_training", AdversarialTraining())
INGREDIENTS.register("trades", Trades())
