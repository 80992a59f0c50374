"""Causal mixing of time and a threshold, in one differentiable step: one matrix product over all steps, no loop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from saccade.kernels.onlookers import somebody
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
    if not (record or somebody(x) or x.numel() == 0):
        spikes: Tensor = _Mix.apply(x, weights, v_th, surrogate)
        return spikes, None
    with torch.autocast(x.device.type, enabled=False):
        potentials = (weights @ x.to(dtype).flatten(1)).unflatten(1, x.shape[1:])
        spikes = spike(potentials - v_th.view(-1, *[1] * (x.dim() - 1)), surrogate)
    return spikes.to(x.dtype), potentials if record else None


class _Mix(torch.autograd.Function):
    """Potentials are made again on the way back: a product with a [T, T] matrix costs less than the memory.

    Products go through ``out=`` or in place, where autocast leaves them alone.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, v_th: Tensor, surrogate: Surrogate) -> Tensor:
        x, layout = dense(x, 0)
        ctx.save_for_backward(x, weights, v_th)
        ctx.surrogate, ctx.layout = surrogate, layout
        R = len(weights)
        spikes = torch.empty_strided((R, *layout.shape[1:]), layout.stride, dtype=x.dtype, device=x.device)
        rows, out = _rows(x, layout.M), _rows(spikes, layout.M)
        for part in _parts(x, layout.M, R):
            d = out[:, part] if out.dtype == weights.dtype else _columns(R, part, weights)
            torch.mm(weights, rows[:, part].to(weights.dtype), out=d)
            d.sub_(v_th.unsqueeze(1))
            d.add_(d, alpha=0).ge_(0)  # 0 * inf makes NaN of infinity, and NaN does not fire
            if d.dtype != out.dtype:
                out[:, part] = d
        return spikes

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        x, weights, v_th = ctx.saved_tensors
        layout, R = ctx.layout, len(weights)
        grad = like(grads[0], layout._replace(shape=(R, *layout.shape[1:])))
        rows, grad_rows = _rows(x, layout.M), _rows(grad, layout.M)
        wants_x, wants_weights, wants_v_th, _ = ctx.needs_input_grad
        grad_x = torch.empty_strided(layout.shape, layout.stride, dtype=x.dtype, device=x.device) if wants_x else None
        grad_weights = torch.zeros_like(weights) if wants_weights else None
        grad_v_th = torch.zeros_like(v_th) if wants_v_th else None
        for part in _parts(x, layout.M, R):
            inside = rows[:, part].to(weights.dtype)
            d = torch.mm(weights, inside, out=_columns(R, part, weights)).sub_(v_th.unsqueeze(1))
            slope = ctx.surrogate.derivative(d).mul_(grad_rows[:, part])
            if grad_x is not None:
                into = _rows(grad_x, layout.M)[:, part]
                there = into if into.dtype == weights.dtype else _columns(layout.T, part, weights)
                torch.mm(weights.t(), slope, out=there)
                if there is not into:
                    into.copy_(there)
            if grad_weights is not None:
                grad_weights.addmm_(slope, inside.t())
            if grad_v_th is not None:
                grad_v_th -= slope.sum(1)
        return grad_x, grad_weights, grad_v_th, None


def _rows(x: Tensor, M: int) -> Tensor:
    """``[T, M]`` of a tensor whose steps are dense, in the order of memory."""
    return x.as_strided((x.shape[0], M), (M, 1))


def _parts(x: Tensor, M: int, R: int) -> list[slice]:
    """Columns; on a CPU in pieces that stay in its cache from one pass to the next."""
    width = max(256, (1 << 17) // R) if x.device.type == "cpu" else M
    return [slice(a, min(a + width, M)) for a in range(0, M, width)]


def _columns(rows: int, part: slice, like: Tensor) -> Tensor:
    return like.new_empty(rows, part.stop - part.start)
