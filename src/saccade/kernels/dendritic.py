"""The scan of dendritic compartments: a linear recurrence along tokens (or steps), in plain torch and native code."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from saccade.kernels import forms
from saccade.kernels.onlookers import operators_only, torch_only

MOST_PAIRS = 16


def dendritic(
    x: Tensor, pairs: Tensor, state: Tensor | None = None, *, last: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Run k = 2 P compartments over ``[B, L, D]``, the same for every channel.

    For every token, and for each pair of compartments (a, b) with its turn ``p + iq`` and read-out ``(c, d)``::

        a, b = p a - q b + x[l],  q a + p b
        y[l] = sum over pairs of  c a + d b

    which is ``z = (p + iq) z + x``, in real numbers. ``pairs`` is ``[4, P]``: p, q, c, d. ``state``, and what is returned
    second if ``last``, are ``[B, 2 P, D]``: the a of all pairs, then the b. The step form is a call of one token.
    Half precision is computed in float32, float64 by the loop in torch. The native form keeps only ``x`` for the way back.

    Raises ValueError for shapes that do not fit or more than 16 pairs.
    """
    if x.dim() != 3 or pairs.dim() != 2 or len(pairs) != 4 or not 1 <= pairs.shape[1] <= MOST_PAIRS:
        raise ValueError(
            f"expected [B, L, D] and [4, 1 to {MOST_PAIRS}] pairs, got {list(x.shape)}, {list(pairs.shape)}"
        )
    if state is not None and state.shape != (x.shape[0], 2 * pairs.shape[1], x.shape[2]):
        raise ValueError(f"a state {list(state.shape)} does not fit an input {list(x.shape)}")
    dtype = x.dtype
    if dtype != torch.float64:
        x, pairs = x.float(), pairs.float()
        state = None if state is None else state.float()
    else:
        pairs = pairs.double()
    if torch_only() or (x.dtype == torch.float64 and not operators_only(x)) or x.numel() == 0:
        y, kept = loop(x, pairs, state)
    elif operators_only(x):
        y, kept = scan_operator(x, pairs, state)
    elif forms.form_for(x.device.type) == "native":
        y, kept = _Scan.apply(x, pairs, state)
    else:
        y, kept = loop(x, pairs, state)
    return y.to(dtype), kept if last else None


def loop(x: Tensor, pairs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The same in plain torch, token by token: what the other forms are held to."""
    p, q, c, d = (row.view(1, -1, 1) for row in pairs)
    P = pairs.shape[1]
    a = x.new_zeros(len(x), P, x.shape[2]) if state is None else state[:, :P]
    b = torch.zeros_like(a) if state is None else state[:, P:]
    outputs = []
    for token in x.unbind(1):
        a, b = p * a - q * b + token.unsqueeze(1), q * a + p * b
        outputs.append((c * a + d * b).sum(1))
    y = torch.stack(outputs, 1) if outputs else torch.zeros_like(x)
    return y, torch.cat([a, b], 1)


def impulse(pairs: Tensor, length: int) -> Tensor:
    """The answer ``[length]`` to a single 1 at the first token: ``sum over pairs of r^l (c cos(w l) + d sin(w l))``."""
    p, q, c, d = pairs.unsqueeze(-1)
    lags = torch.arange(length, dtype=pairs.dtype, device=pairs.device)
    size = (0.5 * torch.log(p.square() + q.square()).clamp(min=-1e4) * lags).exp()
    angle = torch.atan2(q, p) * lags
    return (size * (c * angle.cos() + d * angle.sin())).sum(0)


def by_fourier(x: Tensor, pairs: Tensor) -> Tensor:
    """The scan from rest as a convolution with its impulse response, by FFT over twice the length; at least in float32."""
    length = x.shape[1]
    wide = x if x.dtype == torch.float64 else x.float()
    answer = impulse(pairs.to(wide.dtype), length)
    product = torch.fft.rfft(wide, 2 * length, dim=1) * torch.fft.rfft(answer, 2 * length).view(1, -1, 1)
    return torch.fft.irfft(product, 2 * length, dim=1)[:, :length].to(x.dtype)


def _forward(x: Tensor, pairs: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    kernel = forms.fused("dendritic", x)
    found: tuple[Tensor, Tensor] = (loop if kernel is None else kernel.forward)(x, pairs, state)
    return found


def _backward(
    grad_y: Tensor, grad_last: Tensor | None, x: Tensor, pairs: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    kernel = forms.fused("dendritic", x)
    if kernel is not None:
        found: tuple[Tensor, Tensor, Tensor] = kernel.backward(grad_y, grad_last, x, pairs, state)
        return found
    with torch.enable_grad():
        start = _rest(x, pairs) if state is None else state
        given = [tensor.detach().requires_grad_() for tensor in (x, pairs, start)]
        y, kept = loop(*given)
    grads = [grad_y, torch.zeros_like(kept) if grad_last is None else grad_last]
    a, b, c = torch.autograd.grad([y, kept], given, grads)
    return a, b, c


def _rest(x: Tensor, pairs: Tensor) -> Tensor:
    return x.new_zeros(x.shape[0], 2 * pairs.shape[1], x.shape[2])


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pairs: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, pairs, state)
        ctx.set_materialize_grads(False)
        return _forward(x, pairs, state)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("the fused scan has no second derivative; use saccade.kernels.use('reference')")
        x, pairs, state = ctx.saved_tensors
        grad_y = torch.zeros_like(x) if grads[0] is None else grads[0]
        grad_x, grad_pairs, grad_state = _backward(grad_y, grads[1], x, pairs, state)
        return grad_x, grad_pairs, None if state is None else grad_state


# What torch.compile, export and dispatch modes see.


@torch.library.custom_op("saccade::dendritic", mutates_args=())
def scan_operator(x: Tensor, pairs: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    return _forward(x, pairs, state)


@torch.library.custom_op("saccade::dendritic_backward", mutates_args=())
def scan_backward_operator(
    grad_y: Tensor, grad_last: Tensor | None, x: Tensor, pairs: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    return _backward(grad_y, grad_last, x, pairs, state)


@scan_operator.register_fake
def _(x: Any, pairs: Any, state: Any) -> Any:
    return torch.empty_like(x, memory_format=torch.contiguous_format), _rest(x, pairs)


@scan_backward_operator.register_fake
def _(grad_y: Any, grad_last: Any, x: Any, pairs: Any, state: Any) -> Any:
    like = torch.contiguous_format
    return torch.empty_like(x, memory_format=like), torch.empty_like(pairs, memory_format=like), _rest(x, pairs)


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)
    ctx.set_materialize_grads(False)


def _way_back(ctx: Any, *grads: Any) -> Any:
    x, pairs, state = ctx.saved_tensors
    grad_y = torch.zeros_like(x) if grads[0] is None else grads[0]
    grad_x, grad_pairs, grad_state = scan_backward_operator(grad_y, grads[1], x, pairs, state)
    return grad_x, grad_pairs, None if state is None else grad_state


scan_operator.register_autograd(_way_back, setup_context=_setup)
