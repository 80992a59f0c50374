"""Weights kept near orthogonal: no direction of an input is stretched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from saccade.layers.convex_sum import ConvexSum
from saccade.train.ingredients import INGREDIENTS, Ingredient


@dataclass(frozen=True)
class OrthogonalRetraction(Ingredient):
    """After every step ``W <- (1 + beta) W - beta W W^T W`` for all convolutions (as outputs times the rest) and linear layers:
    singular values move towards 1. With ``adversarial_training`` this is RAT: Ding et al. (2022), SNN-RAT, whose code has beta
    5e-4. Weights are divided by a norm above sqrt((2 + beta) / beta) first, beyond which the step would throw them away. The
    shares of learnt sums (``wrn16_4``) are brought back to convex combinations.
    """

    beta: Annotated[float, Field(gt=0, lt=1)] = 5e-4

    def after_step(self, model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.copy_(retracted(module.weight, self.beta))
            elif isinstance(module, ConvexSum):
                module.project()


def retracted(weight: Tensor, beta: float) -> Tensor:
    """One step towards orthogonal rows, or columns where those are fewer."""
    w = weight.flatten(1)
    most = ((2 + beta) / beta) ** 0.5
    size = w.norm()  # not below the largest singular value
    if float(size) > most:
        w = w * (most / size)
    gram = w @ (w.t() @ w) if w.shape[0] > w.shape[1] else (w @ w.t()) @ w
    return ((1 + beta) * w - beta * gram).view_as(weight)


INGREDIENTS.register("orthogonal_retraction", OrthogonalRetraction())
