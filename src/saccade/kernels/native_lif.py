"""The fused LIF on a CPU: allocates, and calls native/lif_kernels.cpp with addresses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from saccade.kernels.forms import native
from saccade.kernels.operator import NONE, Constants, Layout, like, step_like, values_by_neuron

TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}

Maybe = Tensor | None


@lru_cache(maxsize=256)
def _numbers(constants: Constants) -> Any:
    (decay, gain, v_th, v_rest, v_reset, width), (reset, detach, formula) = constants
    return native().Neuron(decay, gain, v_th, v_rest, v_reset, reset, bool(detach), formula, width)


def _neuron(
    constants: Constants, tensors: Sequence[Maybe], layout: Layout
) -> tuple[Any, list[tuple[Tensor, int, int]]]:
    """The neuron, and for each constant tensor the values, their count and the neurons that share one in a row."""
    neuron = _numbers(constants)
    spread = []
    for which, tensor in enumerate(tensors):
        if tensor is None:
            spread.append((torch.empty(0), 0, 0))
            continue
        values, size, inner = values_by_neuron(tensor, layout)
        neuron = neuron.with_values(which, values.data_ptr(), size, inner)
        spread.append((values, size, inner))
    return neuron, spread


def _address(x: Maybe) -> int:
    return 0 if x is None else x.data_ptr()


def forward(
    x: Tensor, layout: Layout, v0: Maybe, tensors: Sequence[Maybe], constants: Constants, last: bool, record: bool
) -> tuple[Tensor, Maybe, Maybe]:
    """Spikes, and if asked for the last potential and all potentials before reset."""
    T, M, once, shape, stride = layout
    spikes = torch.empty_strided(shape, stride, dtype=x.dtype)
    potentials = torch.empty_strided(shape, stride) if record else None
    v = torch.empty_strided(shape[1:], stride[1:]) if last else None
    v0 = step_like(v0, layout)
    neuron, kept = _numbers(constants), None
    if tensors != NONE:
        neuron, kept = _neuron(constants, tensors, layout)
    native().lif_forward(
        neuron,
        x.data_ptr(),
        _address(v0),
        spikes.data_ptr(),
        _address(v),
        _address(potentials),
        T,
        M,
        once,
        TYPES[x.dtype],
        torch.get_num_threads(),
    )
    del kept  # its addresses were in use until here
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
    grad_s, grad_v, grad_u = grads
    grad_s = torch.zeros(shape, dtype=x.dtype) if grad_s is None else grad_s
    grad_s = like(grad_s, layout)
    grad_u = None if grad_u is None else like(grad_u, layout)
    grad_v, v0 = step_like(grad_v, layout), step_like(v0, layout)
    grad_x = torch.empty_like(x)
    grad_v0: Maybe = None
    learnt: tuple[Maybe, ...] = NONE
    neuron = _numbers(constants)
    spread: list[tuple[Tensor, int, int]] = []
    if tensors != NONE:
        neuron, spread = _neuron(constants, tensors, layout)
        learnt = tuple(torch.empty_strided(shape[1:], stride[1:]) if need else None for need in needs[2:])
    if len(needs) > 1 and needs[1]:
        grad_v0 = torch.empty_strided(shape[1:], stride[1:])
    decay, gain, v_th = learnt
    native().lif_backward(
        neuron,
        x.data_ptr(),
        0 if v0 is None else v0.data_ptr(),
        grad_s.data_ptr(),
        0 if grad_v is None else grad_v.data_ptr(),
        0 if grad_u is None else grad_u.data_ptr(),
        grad_x.data_ptr(),
        0 if grad_v0 is None else grad_v0.data_ptr(),
        0 if decay is None else decay.data_ptr(),
        0 if gain is None else gain.data_ptr(),
        0 if v_th is None else v_th.data_ptr(),
        T,
        M,
        once,
        TYPES[x.dtype],
        torch.get_num_threads(),
    )
    if learnt == NONE:
        return grad_x, grad_v0, None, None, None
    a, b, c = (_summed(g, tensors[i], spread[i], M) if g is not None else None for i, g in enumerate(learnt))
    return grad_x, grad_v0, a, b, c


def _summed(grad: Tensor, tensor: Maybe, spread: tuple[Tensor, int, int], M: int) -> Tensor:
    """The gradient of a constant from those of the neurons."""
    assert tensor is not None
    _, size, inner = spread
    if size == M and inner == 1 and tensor.dim() > 1:  # varies along several axes: in the order of memory of a step
        return grad.sum_to_size(tensor.shape)
    total = torch.empty(tensor.shape)
    native().sum_to_constant(grad.data_ptr(), M, total.data_ptr(), size, inner)
    return total
