"""The firing function: a step forward, a surrogate derivative backward."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from saccade.kernels.onlookers import torch_only


class Surrogate(Protocol):
    """What the kernels need of a surrogate: d(spike)/d(distance), where distance = potential - threshold.

    A class that sets ``formula`` is one of those that the fused kernels know, with ``parameter`` as its one number.
    """

    def derivative(self, distance: Tensor) -> Tensor: ...

    @property
    def parameter(self) -> float: ...


class _Spike(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(distance: Tensor, surrogate: Surrogate) -> Tensor:
        return _fired(distance)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        distance, ctx.surrogate = inputs
        ctx.save_for_backward(distance)
        ctx.save_for_forward(distance)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (distance,) = ctx.saved_tensors
        return grads[0] * ctx.surrogate.derivative(distance), None


class _SpikeWithTangent(_Spike):
    """For forward-mode gradients as well, which a compiler does not take."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        (distance,) = ctx.saved_tensors
        result: Tensor = tangents[0] * ctx.surrogate.derivative(distance)
        return result


def _fired(distance: Tensor) -> Tensor:
    return ((distance >= 0) & (distance < math.inf)).to(distance.dtype)


def _traced(distance: Tensor, surrogate: Surrogate) -> Tensor:
    """The same in operations that a trace can hold: zero is added, whose gradient is the surrogate's. (Whether gradients are on
    must not change a trace, which torch checks.)"""
    fired = _fired(distance)
    if torch.onnx.is_in_onnx_export():
        return fired
    way = distance.clamp(-1e30, 1e30) * surrogate.derivative(distance.detach())  # 0 times infinity would not be zero
    return fired.detach() + (way - way.detach())


def spike(distance: Tensor, surrogate: Surrogate) -> Tensor:
    """1 where ``0 <= distance < inf`` and 0 elsewhere, differentiable through ``surrogate.derivative``.

    Shapes: any -> the same. NaN and infinity never fire.
    """
    if not torch.compiler.is_compiling():
        if torch._C._is_tracing():
            return _traced(distance, surrogate)
        if torch_only():
            tangent: Tensor = _SpikeWithTangent.apply(distance, surrogate)
            return tangent
    result: Tensor = _Spike.apply(distance, surrogate)
    return result
