"""The integer neuron: potentials are rounded to one of D + 1 levels; in plain torch and native code."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from saccade.kernels import forms
from saccade.kernels.onlookers import somebody
from saccade.kernels.operator import dense


class Levels(NamedTuple):
    """The constants of a layer of integer neurons; see ``integer``."""

    decay: float
    gain: float
    limit: float
    divisor: float
    stateful: bool


def integer(
    x: Tensor, v0: Tensor | None, levels: Levels, *, last: bool = True, record: bool = False
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Run a layer of integer neurons over a whole sequence ``[T, N, ...]``.

    For every step, in this order of operations::

        u = decay * v + gain * x[t]              charge; ``gain * x[t]`` alone unless ``stateful``
        s = floor(clamp(u, 0, limit) + 1/2)      fire, the half rounded up
        v = u - s                                reset, through which no gradient passes

    Returns ``(s / divisor, v, u)``: v ``[N, ...]`` if ``last`` and ``stateful``, all potentials u if ``record``, else None.
    The gradient of s is 1 where 0 < u < limit, and 0 elsewhere. NaN gives 0. Half precision is computed in float32.

    On a CPU float32 and bfloat16 run in the native form, which gives the same values bit for bit and keeps only ``x`` for the
    way back.
    Source: Qiu et al. (2025), QSD-Transformer, and Luo et al. (2024), I-LIF, as released; the state is our reading.
    """
    if x.dim() < 2 or not x.is_floating_point():
        raise ValueError(f"a neuron takes floating [T, N, ...], got {x.dtype} {list(x.shape)}")
    if v0 is not None and v0.shape != x.shape[1:]:
        raise ValueError(f"a state {list(v0.shape)} does not fit an input {list(x.shape)}")
    dtype = x.dtype
    if dtype != torch.float64:
        v0 = None if v0 is None else v0.float()
    if dtype == torch.float16:
        x = x.float()
    if not record and not somebody(x) and forms.fused("integer", x) is not None:
        found: Any = _Integer.apply(x, v0, levels, last and levels.stateful)
        y, v = found if last and levels.stateful else (found, None)
        return y.to(dtype), v, None
    if dtype == torch.bfloat16:
        x = x.float()
    y, v, u = reference(x, v0, levels)
    return y.to(dtype), v if last else None, u if record else None


def reference(x: Tensor, v0: Tensor | None, levels: Levels) -> tuple[Tensor, Tensor | None, Tensor]:
    """The same in plain torch: what the native form is held to."""
    decay, gain, limit, divisor, stateful = levels
    if not stateful:
        u = gain * x
        return divided(level(u, limit), divisor), None, u
    v = x.new_zeros(x.shape[1:]) if v0 is None else v0.to(x.dtype)
    spikes, potentials = [], []
    for current in (gain * x).unbind(0):
        u = decay * v + current
        s = level(u, limit)
        v = u - s.detach()
        spikes.append(divided(s, divisor))
        potentials.append(u)
    if not spikes:
        return torch.zeros_like(x), v, torch.zeros_like(x)
    return torch.stack(spikes), v, torch.stack(potentials)


def divided(s: Tensor, divisor: float) -> Tensor:
    """``s / divisor`` rounded as on a CPU: CUDA multiplies by the reciprocal of a number, which is another value at times."""
    return s / torch.full((), divisor, dtype=s.dtype, device=s.device) if s.is_cuda else s / divisor


def level(u: Tensor, limit: float | Tensor) -> Tensor:
    """``floor(clamp(u, 0, limit) + 1/2)``, with the gradient of the clamp; a limit that is a tensor gets one where it binds."""
    above = torch.where(u > 0, u, torch.zeros_like(u))  # NaN too is not above zero
    inside = torch.minimum(above, limit) if isinstance(limit, Tensor) else torch.where(above < limit, above, limit)
    return inside + (torch.floor(inside + 0.5) - inside).detach()


class _Integer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, v0: Tensor | None, levels: Levels, last: bool) -> Any:
        x, layout = dense(x, 0)
        ctx.save_for_backward(x, v0)
        ctx.kernel, ctx.call = forms.fused("integer", x), (layout, levels)
        ctx.set_materialize_grads(False)
        y, v = ctx.kernel.forward(x, layout, v0, levels, last)
        return (y, v) if last else y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("the fused neurons have no second derivative; use saccade.kernels.use('reference')")
        x, v0 = ctx.saved_tensors
        layout, levels = ctx.call
        grad_y, grad_v = grads if len(grads) == 2 else (grads[0], None)
        return (*ctx.kernel.backward(grad_y, grad_v, x, layout, v0, levels), None, None)
