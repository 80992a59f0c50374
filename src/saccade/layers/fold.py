"""Layers without a sense of time: T is folded into the batch, so that one call serves all steps.

All take a sequence ``[T, N, C, H, W]`` (T and N become one axis inside) or a static ``[N, C, H, W]``, which they treat as
torch does. Batch statistics are therefore over T, N, H and W (those of tdBN, Zheng et al. 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.kernels.pool import average, can_average
from saccade.layers import packed
from saccade.layers.packed import Weighted
from saccade.layers.recompute import running_again


def folded(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a layer of ``[N, C, H, W]`` to ``[T, N, C, H, W]`` or ``[N, C, H, W]``. Raises ValueError for other shapes."""
    if x.dim() == 4:
        return layer(x)
    if x.dim() != 5:
        raise ValueError(f"expected [T, N, C, H, W] or [N, C, H, W], got {list(x.shape)}")
    return layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Conv2d(Weighted, nn.Conv2d):
    """``nn.Conv2d`` over ``[T, N, C, H, W]``; in training, input that is spikes is kept as bits (see ``layers.packed``)."""

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() > 2 and input.shape[-3] != self.in_channels:
            raise ValueError(f"expected {self.in_channels} channels, got an input {list(input.shape)}")
        return folded(self._convolve, input)

    def _convolve(self, x: Tensor) -> Tensor:
        bits = self.bits_of(x) if self.padding_mode == "zeros" and not isinstance(self.padding, str) else None
        if bits is None:
            return self._conv_forward(x, self.used_weight(), self.bias)
        geometry = self.stride, self.padding, self.dilation, self.groups
        return packed.conv2d(x, self.used_weight(), self.bias, bits, *geometry)


class Linear(Weighted, nn.Linear):
    """``nn.Linear`` over the last axis of ``[T, N, ..., D]``; in training, input that is spikes is kept as bits."""

    def forward(self, input: Tensor) -> Tensor:
        bits = self.bits_of(input)
        if bits is None:
            return F.linear(input, self.used_weight(), self.bias)
        return packed.linear(input, self.used_weight(), self.bias, bits)


class BatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` over ``[T, N, C, H, W]``; ``init_weight`` is where gamma starts (MS-ResNet: V_th, or 0)."""

    def __init__(self, channels: int, init_weight: float = 1.0, **options: Any) -> None:
        super().__init__(channels, **options)
        nn.init.constant_(self.weight, init_weight)

    def forward(self, input: Tensor) -> Tensor:
        return folded(self._again if self.training and running_again() else super().forward, input)

    def _again(self, x: Tensor) -> Tensor:
        """The same output without another update of the running statistics."""
        return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)


class BatchNorm1d(nn.BatchNorm1d):
    """``nn.BatchNorm1d`` over ``[T, N, D]``, T folded into the batch."""

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() != 3:
            raise ValueError(f"expected [T, N, D], got {list(input.shape)}")
        x = input.flatten(0, 1)
        if self.training and running_again():
            y = F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)
        else:
            y = super().forward(x)
        return y.unflatten(0, input.shape[:2])


class ThresholdBatchNorm2d(BatchNorm2d):
    """Threshold-dependent batch norm: ``gamma * (alpha * V_th * (x - mean) / sqrt(var + eps)) + beta``.

    ``alpha`` is 1, or 1/sqrt(2) where two branches are summed before a neuron. Source: Zheng et al. (2021) eq. 8-9.
    """

    def __init__(self, channels: int, v_th: float = 1.0, alpha: float = 1.0, **options: Any) -> None:
        super().__init__(channels, **options)
        self.scale = alpha * v_th

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale={self.scale:g}"

    def forward(self, input: Tensor) -> Tensor:
        def norm(x: Tensor) -> Tensor:
            gamma = self.weight * self.scale
            if self.training and running_again():
                return F.batch_norm(x, None, None, gamma, self.bias, True, 0.0, self.eps)
            if self.training and self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            momentum = self.momentum
            if momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked or 1)
            return F.batch_norm(
                x, self.running_mean, self.running_var, gamma, self.bias, self.training, momentum, self.eps
            )

        return folded(norm, input)


def fold_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Conv2d:
    """A new convolution that does what ``conv`` then ``norm`` do in eval mode (running statistics).

    W' = W * g / sqrt(var + eps), b' = beta + (b - mean) * g / sqrt(var + eps), where g = gamma, times alpha * V_th for
    a threshold-dependent norm. Source: Zheng et al. (2021) eq. 12-13.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("only a norm with running statistics can be folded")
    scale = norm.weight * getattr(norm, "scale", 1.0) / torch.sqrt(norm.running_var + norm.eps)
    geometry: dict[str, Any] = {key: getattr(conv, key) for key in ("stride", "padding", "dilation", "groups")}
    size: Any = conv.kernel_size
    merged = Conv2d(conv.in_channels, conv.out_channels, size, **geometry).to(conv.weight)
    assert merged.bias is not None
    bias = conv.bias if conv.bias is not None else torch.zeros_like(norm.running_mean)
    with torch.no_grad():
        weight = conv.used_weight() if isinstance(conv, Conv2d) else conv.weight
        merged.weight.copy_(weight * scale.view(-1, 1, 1, 1))
        merged.bias.copy_(norm.bias + (bias - norm.running_mean) * scale)
    return merged


class MaxPool2d(nn.MaxPool2d):
    """``nn.MaxPool2d`` over ``[T, N, C, H, W]``; an OR on binary spikes."""

    def forward(self, input: Tensor) -> Tensor:
        return folded(super().forward, input)


class AvgPool2d(nn.AvgPool2d):
    """``nn.AvgPool2d`` over ``[T, N, C, H, W]``; windows that do not overlap keep nothing for the way back."""

    def forward(self, input: Tensor) -> Tensor:
        return folded(self._pool, input)

    def _pool(self, x: Tensor) -> Tensor:
        k = self.kernel_size
        plain = not self.padding and not self.ceil_mode and self.divisor_override is None
        if isinstance(k, int) and self.stride == k and plain and can_average(x, k):
            return average(x, k)
        return nn.AvgPool2d.forward(self, x)


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """``nn.AdaptiveAvgPool2d`` over ``[T, N, C, H, W]``."""

    def forward(self, input: Tensor) -> Tensor:
        return folded(super().forward, input)


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
