"""Two branches added in shares that are learnt."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvexSum(nn.Module):
    """``a x + b y`` with learnt numbers ``weight = (a, b)`` that start at one half each.

    Nothing holds them to a convex combination but ``project``, which training with orthogonal retraction calls after its steps.
    Source: Ding et al. (2022), SNN-RAT, as released.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2,), 0.5))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.weight[0] * x + self.weight[1] * y

    @torch.no_grad()
    def project(self) -> None:
        """To the nearest ``a, b >= 0`` with ``a + b = 1``."""
        a = (0.5 + (self.weight[0] - self.weight[1]) / 2).clamp(0, 1)
        self.weight.copy_(torch.stack([a, 1 - a]))
