"""Pooling and dropout over ``[T, N, C, H, W]``."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.kernels.pool import average, can_average
from saccade.layers.fold import fold_time

MAPS = "T, N, C, H, W"


class MaxPool2d(nn.MaxPool2d):
    """``nn.MaxPool2d`` over ``[T, N, C, H, W]``; an OR on binary spikes."""

    def forward(self, input: Tensor) -> Tensor:
        return fold_time(super().forward, input, MAPS)


class AvgPool2d(nn.AvgPool2d):
    """``nn.AvgPool2d`` over ``[T, N, C, H, W]``; windows that do not overlap keep nothing for the way back."""

    def forward(self, input: Tensor) -> Tensor:
        return fold_time(self._pool, input, MAPS)

    def _pool(self, x: Tensor) -> Tensor:
        k = self.kernel_size
        plain = not self.padding and not self.ceil_mode and self.divisor_override is None
        if isinstance(k, int) and self.stride == k and plain and can_average(x, k):
            return average(x, k)
        return nn.AvgPool2d.forward(self, x)


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """``nn.AdaptiveAvgPool2d`` over ``[T, N, C, H, W]``."""

    def forward(self, input: Tensor) -> Tensor:
        return fold_time(super().forward, input, MAPS)


class Dropout(nn.Module):
    """Dropout on ``[T, N, ...]`` with one mask for all steps: a dropped unit is silent for the whole sample."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def extra_repr(self) -> str:
        return f"p={self.p}"

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        return x * F.dropout(torch.ones_like(x[0]), self.p)
