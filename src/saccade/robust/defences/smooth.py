"""Answers that change little along the sign of their gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from saccade.train.ingredients import INGREDIENTS, Ingredient, TrainingStep
from saccade.train.losses import read_out


@dataclass(frozen=True)
class SparseGradients(Ingredient):
    """Adds ``weight * mean ((f(x + h sign(df/dx)) - f(x)) / h)^2``, a difference that stands for the L1 norm of the gradient
    of f by the image; f is the probability of the class against the best other one. Liu et al. (2024), SR: sparse gradient
    regularity.
    """

    weight: Annotated[float, Field(ge=0)] = 0.002
    h: Annotated[float, Field(gt=0)] = 0.01

    def check(self, model: Any, task: Any) -> None:
        if not hasattr(task, "readout"):
            raise ValueError("it is about the classes that a network names, and this task has none")

    def loss(self, step: TrainingStep) -> Tensor | float:
        if step.target.dim() != 1:
            raise ValueError("sparse_gradients: mixed images (mixup, cutmix) have no class; leave them out")
        readout = step.task.readout  # type: ignore[attr-defined]

        def f(output: Tensor) -> Tensor:
            z = read_out(output.float(), readout)
            own = z.gather(1, step.target[:, None])[:, 0]
            other = z.scatter(1, step.target[:, None], -torch.inf).amax(1)
            return torch.sigmoid(own - other)  # e^own / (e^own + e^other), which does not overflow

        x = step.images.detach().requires_grad_(True)
        value = f(step.call(x))
        (g,) = torch.autograd.grad(value.sum(), x, retain_graph=True)
        moved = f(step.call(step.images + self.h * g.sign().detach()))
        return self.weight * ((moved - value) / self.h).square().mean()


INGREDIENTS.register("sparse_gradients", SparseGradients())
