"""Potentials of the last layer that a small change of the picture moves little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from saccade.robust.defences.adversarial import AdversarialTraining
from saccade.train.ingredients import INGREDIENTS, Ingredient, TrainingStep


@dataclass(frozen=True)
class MembranePerturbation(Ingredient):
    """Adds ``weight * mean |e_t|^p`` with ``e_t = decay e_{t-1} + d_t``, d the change of the answers of step t under a changed
    picture: how far a last layer that does not reset would be moved. And of the loss, a ``share`` is of the changed picture.

    perturbation: "gaussian" (deviation ``eps``) or "fgsm" (one signed step of ``eps`` from a point 0.001 away). p: 2, or 1.
    Source: Ding et al. (2024), the mean square perturbation of potentials that goes with DLIF (decay 0.99, share 0.5, weight
    1); p = 1 is the total variation of a later paper (2026), both from notes. Needs a model that answers in every step.
    """

    weight: Annotated[float, Field(ge=0)] = 1.0
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    decay: Annotated[float, Field(ge=0, le=1)] = 0.99
    p: Literal[1, 2] = 2
    perturbation: Literal["gaussian", "fgsm"] = "fgsm"
    eps: Annotated[float, Field(gt=0)] = 4 / 255

    def check(self, model: Any, task: Any) -> None:
        if not getattr(model, "gives_steps", False):
            raise ValueError(f"{type(model).__name__} does not answer in every step, whose change is what counts")

    def loss(self, step: TrainingStep) -> Tensor | float:
        assert step.output is not None
        x = self._changed(step)
        moved = step.call(x)
        error, total = torch.zeros_like(moved[0]), torch.zeros((), device=moved.device)
        for d in moved - step.output:
            error = self.decay * error + d
            total = total + error.abs().pow(self.p).mean()
        own, other = (step.task.plain_loss(output, step.target) for output in (step.output, moved))
        return self.weight * total / len(moved) + self.share * (other - own)

    def _changed(self, step: TrainingStep) -> Tensor:
        x = step.images.detach()
        if self.perturbation == "gaussian":
            return (x + self.eps * torch.randn_like(x)).clamp(0, 1)
        near = AdversarialTraining(eps=self.eps, steps=1, step=1.0, start=0.001)
        return near.images(step)


INGREDIENTS.register("membrane_perturbation", MembranePerturbation())
