"""Causal mixing of time and a threshold, in one differentiable step: one matrix product over all steps, no loop."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from saccade.kernels.operator import dense, like
from saccade.kernels.spike import Surrogate, spike


def mix(
    x: Tensor, weights: Tensor, v_th: Tensor, surrogate: Surrogate, record: bool = False
) -> tuple[Tensor, Tensor | None]:
    """``H = weights @ x`` over time, then ``S[t] = 1`` where ``v_th[t] <= H[t] < inf``, else 0.

    Shapes: ``x`` is ``[T, N, ...]``, ``weights`` ``[R, T]``, ``v_th`` ``[]`` or ``[R]``; returns ``(S, H)``, both
    ``[R, N, ...]``, S in the dtype of ``x`` and H None unless ``record``. Half-precision input is mixed in float32.
    Keeps ``x`` and nothing else of its size for the way back, and takes any dense order of ``[N, ...]`` (channels last too)
    without copying it. A value that is not finite spoils all steps of its neuron, since 0 times infinity is NaN.

    Raises ValueError for shapes that do not fit, TypeError for input that is not floating.
    """
    if x.dim() < 2 or weights.dim() != 2 or weights.shape[1] != x.shape[0]:
        raise ValueError(f"weights {list(weights.shape)} do not mix the steps of an input {list(x.shape)}")
    if not x.is_floating_point():
        raise TypeError(f"a neuron takes floating input, got {x.dtype}")
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    weights, v_th = weights.to(dtype), v_th.to(dtype).expand(len(weights))
    plain = record or torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() or x.numel() == 0
    if not plain:
        spikes: Tensor = _Mix.apply(x, weights, v_th, surrogate)
        return spikes, None
    with torch.autocast(x.device.type, enabled=False):
        potentials = (weights @ x.to(dtype).flatten(1)).unflatten(1, x.shape[1:])
        spikes = spike(potentials - v_th.view(-1, *[1] * (x.dim() - 1)), surrogate)
    return spikes.to(x.dtype), potentials if record else None


class _Mix(torch.autograd.Function):
    """Potentials are made again on the way back: a product with a [T, T] matrix costs less than the memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, v_th: Tensor, surrogate: Surrogate) -> Tensor:
        x, layout = dense(x, 0)
        ctx.save_for_backward(x, weights, v_th)
        ctx.surrogate, ctx.layout = surrogate, layout
        R = len(weights)
        spikes = torch.empty_strided((R, *layout.shape[1:]), layout.stride, dtype=x.dtype, device=x.device)
        out = spikes.as_strided((R, layout.M), (layout.M, 1))
        for part in _parts(layout.M, R):
            d = _distance(x.as_strided((layout.T, layout.M), (layout.M, 1))[:, part], weights, v_th)
            out[:, part] = (d >= 0).logical_and_(d < math.inf)
        return spikes

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        x, weights, v_th = ctx.saved_tensors
        layout, R = ctx.layout, len(weights)
        grad = like(grads[0], layout._replace(shape=(R, *layout.shape[1:])))
        rows = x.as_strided((layout.T, layout.M), (layout.M, 1))
        grad_rows = grad.as_strided((R, layout.M), (layout.M, 1))
        wants_x, wants_weights, wants_v_th, _ = ctx.needs_input_grad
        grad_x = torch.empty_strided(layout.shape, layout.stride, dtype=x.dtype, device=x.device) if wants_x else None
        grad_weights = torch.zeros_like(weights) if wants_weights else None
        grad_v_th = torch.zeros_like(v_th) if wants_v_th else None
        for part in _parts(layout.M, R):
            inside = rows[:, part].to(weights.dtype)
            slope = ctx.surrogate.derivative(_distance(inside, weights, v_th)).mul_(grad_rows[:, part])
            if grad_x is not None:
                into = grad_x.as_strided((layout.T, layout.M), (layout.M, 1))[:, part]
                into.copy_(_product(weights.t(), slope))
            if grad_weights is not None:
                grad_weights += _product(slope, inside.t())
            if grad_v_th is not None:
                grad_v_th -= slope.sum(1)
        return grad_x, grad_weights, grad_v_th, None


def _parts(M: int, R: int, elements: int = 1 << 16) -> list[slice]:
    """Columns in pieces that stay in a cache between one pass and the next (a GPU would only see more launches)."""
    width = max(256, elements // R)
    return [slice(a, min(a + width, M)) for a in range(0, M, width)]


def _product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b``, out of reach of autocast, which leaves ``out=`` alone."""
    return torch.mm(a, b, out=torch.empty(a.shape[0], b.shape[1], dtype=a.dtype, device=a.device))


def _distance(rows: Tensor, weights: Tensor, v_th: Tensor) -> Tensor:
    return _product(weights, rows.to(weights.dtype)).sub_(v_th.unsqueeze(1))
