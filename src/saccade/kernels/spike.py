"""The firing function: a step forward, a surrogate derivative backward."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor


class Surrogate(Protocol):
    """What the kernels need of a surrogate: d(spike)/d(distance), where distance = potential - threshold.

    A class that sets ``formula`` is one of those that the fused kernels know, with ``parameter`` as its one number.
    """

    def derivative(self, distance: Tensor) -> Tensor: ...

    @property
    def parameter(self) -> float: ...


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, distance: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(distance)
        ctx.surrogate = surrogate
        return ((distance >= 0) & (distance < math.inf)).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (distance,) = ctx.saved_tensors
        return grads[0] * ctx.surrogate.derivative(distance), None


def spike(distance: Tensor, surrogate: Surrogate) -> Tensor:
    """1 where ``0 <= distance < inf`` and 0 elsewhere, differentiable through ``surrogate.derivative``.

    Shapes: any -> the same. NaN and infinity never fire.
    """
    result: Tensor = _Spike.apply(distance, surrogate)
    return result
