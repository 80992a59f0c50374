"""Average pooling that keeps nothing for the way back but the shape; torch keeps the whole input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from saccade.kernels import forms
from saccade.kernels.onlookers import somebody


def can_average(x: Tensor, k: int) -> bool:
    """Whether ``average`` takes this ``[N, C, H, W]``: float32 on a CPU with the native kernels, windows that fit."""
    return (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and x.dim() == 4
        and x.shape[2] % k == 0
        and x.shape[3] % k == 0
        and not somebody(x)
        and forms.form_for("cpu") == "native"
    )


def average(x: Tensor, k: int) -> Tensor:
    """Means of the non-overlapping ``k x k`` windows of ``[N, C, H, W]``, in either order of memory."""
    result: Tensor = _Average.apply(x, k)
    return result


class _Average(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, k: int) -> Tensor:
        ctx.k = k
        ctx.shape = x.shape
        n, c, h, w = x.shape
        return _run(x, (n, c, h // k, w // k), k, back=False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _run(grads[0], ctx.shape, ctx.k, back=True), None


def _run(x: Tensor, shape: tuple[int, ...], k: int, back: bool) -> Tensor:
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    order = torch.channels_last if last else torch.contiguous_format
    x = x.contiguous(memory_format=order)
    y = torch.empty(shape, dtype=x.dtype, memory_format=order)
    n, c, h, w = shape if back else x.shape
    rows, together = (n * (h // k), c) if last else (n * c * (h // k), 1)
    forms.native().pool(x.data_ptr(), y.data_ptr(), rows, w, together, k, back, torch.get_num_threads())
    return y
