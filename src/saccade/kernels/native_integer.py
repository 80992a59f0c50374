"""The integer neuron on a CPU: allocates, and calls native/integer_kernels.cpp with addresses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from saccade.kernels.forms import native
from saccade.kernels.operator import Layout, like, step_like

TYPES = {torch.float32: 0, torch.bfloat16: 1}

Maybe = Tensor | None


def forward(x: Tensor, layout: Layout, v0: Maybe, constants: Sequence[float], last: bool) -> tuple[Tensor, Maybe]:
    """Levels, and if asked for what the last of them left of the potentials."""
    v0 = step_like(v0, layout)
    y = torch.empty_strided(layout.shape, layout.stride, dtype=x.dtype)
    v = torch.empty_strided(layout.shape[1:], layout.stride[1:]) if last else None
    places = x.data_ptr(), _address(v0), y.data_ptr(), _address(v)
    native().integer_forward(*constants, *places, layout.T, layout.M, TYPES[x.dtype], torch.get_num_threads())
    return y, v


def backward(
    grad_y: Maybe, grad_v: Maybe, x: Tensor, layout: Layout, v0: Maybe, constants: Sequence[float]
) -> tuple[Tensor, Maybe]:
    """The gradients of ``x`` and ``v0``."""
    v0, grad_v = step_like(v0, layout), step_like(grad_v, layout)
    grad_y = like(x.new_zeros(()).expand(layout.shape) if grad_y is None else grad_y, layout)
    grad_x = torch.empty_strided(layout.shape, layout.stride, dtype=x.dtype)
    grad_v0 = None if v0 is None else torch.empty_strided(layout.shape[1:], layout.stride[1:])
    places = x.data_ptr(), _address(v0), grad_y.data_ptr(), _address(grad_v), grad_x.data_ptr(), _address(grad_v0)
    native().integer_backward(*constants, *places, layout.T, layout.M, TYPES[x.dtype], torch.get_num_threads())
    return grad_x, grad_v0


def _address(x: Maybe) -> int:
    return 0 if x is None else x.data_ptr()
