"""Convolutions and matrix products that keep spike input as bits for the way back: same gradients, a 32nd of the memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from saccade.kernels.bits import Bits, Form, unpack


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, bits: Bits, *geometry: Any) -> Tensor:
    """``F.conv2d(x, weight, bias, stride, padding, dilation, groups)`` that keeps ``bits`` in the place of ``x``."""
    x, weight, bias = _cast(x, weight, bias)
    result: Tensor = _Conv2d.apply(x, weight, bias, bits.planes, bits.form._replace(dtype=x.dtype), geometry)
    return result


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, bits: Bits) -> Tensor:
    """``F.linear(x, weight, bias)`` that keeps ``bits`` in the place of ``x``."""
    x, weight, bias = _cast(x, weight, bias)
    result: Tensor = _Linear.apply(x, weight, bias, bits.planes, bits.form._replace(dtype=x.dtype))
    return result


def _cast(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """What autocast would do; spikes are exact in every type."""
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        return x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    return x, weight, bias


class _Conv2d(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, planes: Tensor, form: Form, geometry: Any
    ) -> Tensor:
        ctx.save_for_backward(weight, planes)
        ctx.form = form
        ctx.geometry = geometry
        ctx.bias = None if bias is None else list(bias.shape)
        return F.conv2d(x, weight, bias, *geometry)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weight, planes = ctx.saved_tensors
        x = unpack(planes, ctx.form)
        stride, padding, dilation, groups = ctx.geometry
        needs = list(ctx.needs_input_grad[:3])
        found = torch.ops.aten.convolution_backward(
            grads[0], x, weight, ctx.bias, stride, padding, dilation, False, [0, 0], groups, needs
        )
        return (*found, None, None, None)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, planes: Tensor, form: Form) -> Tensor:
        ctx.save_for_backward(weight, planes)
        ctx.form = form
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weight, planes = ctx.saved_tensors
        needs = ctx.needs_input_grad
        flat = grads[0].flatten(0, -2)
        grad_x = grads[0] @ weight if needs[0] else None
        grad_weight = grad_bias = None
        if needs[1]:
            x = unpack(planes, ctx.form)
            grad_weight = flat.t() @ x.flatten(0, -2)
        if needs[2]:
            grad_bias = flat.sum(0)
        return grad_x, grad_weight, grad_bias, None, None
