"""The fused LIF in Triton: on a GPU, or anywhere in Triton's interpreter (``TRITON_INTERPRET=1``), which is for tests."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from saccade.kernels.operator import FORMULAS, RESETS, Constants, Layout, like, step_like, values_by_neuron

BLOCK = 512  # neurons of a program: four for each thread of four warps, one 16-byte access of float32

Maybe = Tensor | None


@triton.jit
def _constant(value, size, inner, i, there):
    # a number, or where there is a size the address of values
    if size is None:
        return value
    else:
        return tl.load(value + (i // inner) % size, mask=there, other=0.0)


@triton.jit
def _start(v0, v_rest, i, there, BLOCK: tl.constexpr):
    if v0 is None:
        return tl.full((BLOCK,), v_rest, tl.float32)
    else:
        return tl.load(v0 + i, mask=there, other=0.0)


@triton.jit
def _charge(v, x, decay, gain, v_rest):
    # in this order, as in the reference: the result is the same to the last bit
    return (v_rest + decay * (v - v_rest)) + gain * x


@triton.jit
def _fires(u, v_th):
    return (u >= v_th) & (u < float("inf"))


@triton.jit
def _after(u, v_th, v_reset, RESET: tl.constexpr):
    if RESET == "hard":
        return tl.where(_fires(u, v_th), v_reset, u)
    elif RESET == "soft":
        return tl.where(_fires(u, v_th), u - v_th, u)
    else:
        return u


@triton.jit
def _derivative(d, width, SURROGATE: tl.constexpr):
    if SURROGATE == "atan":
        z = (1.57079632679489662 * width) * d
        return (0.5 * width) / (1.0 + z * z)
    elif SURROGATE == "sigmoid":
        e = tl.exp(-tl.abs(width * d))  # the derivative is even; this way nothing overflows
        return width * e / ((1.0 + e) * (1.0 + e))
    elif SURROGATE == "triangle":
        rise = width - tl.abs(d)
        return tl.where(rise < 0.0, 0.0, rise) / (width * width)  # where, not maximum: NaN stays
    elif SURROGATE == "rectangle":
        return tl.where(tl.abs(d) < width, 1.0 / (2.0 * width), 0.0)
    elif SURROGATE == "gaussian":
        z = d / width
        return tl.exp(-0.5 * z * z) / (width * 2.50662827463100050)
    else:
        return tl.full(d.shape, 1.0, tl.float32)


@triton.jit
def _forward(
    x,
    v0,
    spikes,
    v_last,
    potentials,
    decay,
    decay_size,
    decay_inner,
    gain,
    gain_size,
    gain_inner,
    v_th,
    v_th_size,
    v_th_inner,
    v_rest,
    v_reset,
    T,
    M,
    RESET: tl.constexpr,
    ONCE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    # 64-bit, since T * M may not fit in 32
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = i < M
    decay = _constant(decay, decay_size, decay_inner, i, there)
    gain = _constant(gain, gain_size, gain_inner, i, there)
    v_th = _constant(v_th, v_th_size, v_th_inner, i, there)
    v = _start(v0, v_rest, i, there, BLOCK)
    at = i
    for _ in range(T):
        current = tl.load(x + (i if ONCE else at), mask=there, other=0.0).to(tl.float32)
        u = _charge(v, current, decay, gain, v_rest)
        tl.store(spikes + at, tl.where(_fires(u, v_th), 1.0, 0.0).to(spikes.dtype.element_ty), mask=there)
        if potentials is not None:
            tl.store(potentials + at, u, mask=there)
        v = _after(u, v_th, v_reset, RESET)
        at += M
    if v_last is not None:
        tl.store(v_last + i, v, mask=there)


@triton.jit
def _backward(
    x,
    v0,
    grad_s,
    grad_v_last,
    grad_u,
    grad_x,
    grad_v0,
    grad_decay,
    grad_gain,
    grad_v_th,
    potentials,
    decay,
    decay_size,
    decay_inner,
    gain,
    gain_size,
    gain_inner,
    v_th,
    v_th_size,
    v_th_inner,
    v_rest,
    v_reset,
    width,
    T,
    M,
    RESET: tl.constexpr,
    DETACH: tl.constexpr,
    SURROGATE: tl.constexpr,
    ONCE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = i < M
    decay = _constant(decay, decay_size, decay_inner, i, there)
    gain = _constant(gain, gain_size, gain_inner, i, there)
    v_th = _constant(v_th, v_th_size, v_th_inner, i, there)

    # The potentials once more, with the operations of the way there, so that the same neurons fire.
    v = _start(v0, v_rest, i, there, BLOCK)
    at = i
    for _ in range(T):
        current = tl.load(x + (i if ONCE else at), mask=there, other=0.0).to(tl.float32)
        u = _charge(v, current, decay, gain, v_rest)
        tl.store(potentials + at, u, mask=there)
        v = _after(u, v_th, v_reset, RESET)
        at += M
    tl.debug_barrier()  # what one thread stored above, another may load below: layouts are chosen for each access

    nothing = tl.zeros((BLOCK,), tl.float32)
    sum_x, sum_decay, sum_gain, sum_v_th = nothing, nothing, nothing, nothing
    gv = nothing if grad_v_last is None else tl.load(grad_v_last + i, mask=there, other=0.0)
    at -= M
    u = tl.load(potentials + at, mask=there & (at >= 0), other=0.0)  # at < 0: no step at all
    for _ in range(T):
        has_before = at >= M
        u_before = tl.load(potentials + (at - M), mask=there & has_before, other=0.0)
        fired = _fires(u, v_th)
        gs = nothing if grad_s is None else tl.load(grad_s + at, mask=there, other=0.0).to(tl.float32)
        gu = gv
        if RESET == "hard":
            gu = tl.where(fired, 0.0, gv)
            if not DETACH:
                gs += gv * (v_reset - u)
        if RESET == "soft" and not DETACH:
            gs -= gv * v_th
        through_spike = gs * _derivative(u - v_th, width, SURROGATE)
        gu += through_spike
        if grad_u is not None:
            gu += tl.load(grad_u + at, mask=there, other=0.0)
        if grad_x is not None:
            gx = gain * gu
            if ONCE:
                sum_x += gx
            else:
                tl.store(grad_x + at, gx.to(grad_x.dtype.element_ty), mask=there)
        if grad_decay is not None:
            before = tl.where(has_before, _after(u_before, v_th, v_reset, RESET), _start(v0, v_rest, i, there, BLOCK))
            sum_decay += gu * (before - v_rest)
        if grad_gain is not None:
            sum_gain += gu * tl.load(x + (i if ONCE else at), mask=there, other=0.0).to(tl.float32)
        if grad_v_th is not None:
            sum_v_th -= through_spike
            if RESET == "soft":
                sum_v_th -= tl.where(fired, gv, 0.0)
        gv = decay * gu
        u = u_before
        at -= M

    if grad_x is not None and ONCE:
        tl.store(grad_x + i, sum_x.to(grad_x.dtype.element_ty), mask=there)
    if grad_v0 is not None:
        tl.store(grad_v0 + i, gv, mask=there)
    if grad_decay is not None:
        tl.store(grad_decay + i, sum_decay, mask=there)
    if grad_gain is not None:
        tl.store(grad_gain + i, sum_gain, mask=there)
    if grad_v_th is not None:
        tl.store(grad_v_th + i, sum_v_th, mask=there)


def forward(
    x: Tensor, layout: Layout, v0: Maybe, tensors: Sequence[Maybe], constants: Constants, last: bool, record: bool
) -> tuple[Tensor, Maybe, Maybe]:
    """Spikes, and if asked for the last potential and all potentials before reset."""
    T, M, once, shape, stride = layout
    (*_, v_rest, v_reset, _), (reset, _, _) = constants
    spikes = torch.empty_strided(shape, stride, dtype=x.dtype, device=x.device)
    potentials = torch.empty_strided(shape, stride, device=x.device) if record else None
    v = torch.empty_strided(shape[1:], stride[1:], device=x.device) if last else None
    _launch(
        _forward,
        x,
        step_like(v0, layout),
        spikes,
        v,
        potentials,
        *_values(constants, tensors, layout, x.device),
        float(v_rest),
        float(v_reset),
        T,
        M,
        RESET=RESETS[reset],
        ONCE=once,
    )
    return spikes, v, potentials


def backward(
    grads: Sequence[Maybe],
    x: Tensor,
    layout: Layout,
    v0: Maybe,
    tensors: Sequence[Maybe],
    constants: Constants,
    needs: Sequence[bool],
) -> tuple[Maybe, Maybe, Maybe, Maybe, Maybe]:
    """Gradients of x, v0, decay, gain and v_th; None where not needed."""
    T, M, once, shape, stride = layout
    (*_, v_rest, v_reset, width), (reset, detach, formula) = constants
    grad_s, grad_v, grad_u = grads
    grad_x = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device) if needs[0] else None
    needs = (*needs[1:], False, False, False, False)[:4]  # x may be all there is
    # of v0, decay, gain and v_th: one value for each neuron
    steps = [torch.empty_strided(shape[1:], stride[1:], device=x.device) if need else None for need in needs]
    # Triton has no local arrays that a loop variable could index, so the recomputed potentials pass through memory
    potentials = torch.empty(T * M, device=x.device)
    _launch(
        _backward,
        x,
        step_like(v0, layout),
        None if grad_s is None else like(grad_s, layout),
        step_like(grad_v, layout),
        None if grad_u is None else like(grad_u, layout),
        grad_x,
        *steps,
        potentials,
        *_values(constants, tensors, layout, x.device),
        float(v_rest),
        float(v_reset),
        float(width),
        T,
        M,
        RESET=RESETS[reset],
        DETACH=bool(detach),
        SURROGATE=FORMULAS[formula],
        ONCE=once,
    )
    a, b, c = (_summed(g, tensor) for g, tensor in zip(steps[1:], tensors, strict=True))
    return grad_x, steps[0], a, b, c


def _values(constants: Constants, tensors: Sequence[Maybe], layout: Layout, device: torch.device) -> list[Any]:
    """decay, gain and v_th, three arguments each: a number, None, None or values, their count, neurons that share one."""
    arguments: list[Any] = []
    for number, tensor in zip(constants.numbers, tensors, strict=False):
        arguments += (float(number), None, None) if tensor is None else values_by_neuron(tensor.to(device), layout)
    return arguments


def launching(kernel: Any, x: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Around a launch: on the device of ``x``, as Triton launches on the current one, whatever the tensors'.

    Raises RuntimeError for a CPU tensor outside the interpreter.
    """
    if x.device.type == "cpu" and isinstance(kernel, triton.JITFunction):
        raise RuntimeError("the Triton kernels need a GPU; on a CPU they run only with TRITON_INTERPRET=1, for tests")
    return torch.cuda.device_of(x)


def _launch(kernel: Any, x: Tensor, *arguments: Any, **choices: Any) -> None:
    M = arguments[-1]
    if M:
        with launching(kernel, x):
            # without contraction to fused multiply-adds: they would round once where the reference rounds twice
            kernel[(triton.cdiv(M, BLOCK),)](x, *arguments, **choices, BLOCK=BLOCK, num_warps=4, enable_fp_fusion=False)


def _summed(grad: Maybe, tensor: Maybe) -> Maybe:
    """The gradient of a constant from those of the neurons."""
    if grad is None or tensor is None:
        return None
    return grad.double().sum_to_size(tensor.shape).to(tensor.device, tensor.dtype)
