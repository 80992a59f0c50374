"""The scan of dendritic compartments on a CPU: allocates, and calls native/dendritic_kernels.cpp with addresses."""

from __future__ import annotations

import torch
from torch import Tensor

from saccade.kernels.forms import native

TYPES = (torch.float32,)

Maybe = Tensor | None


def forward(x: Tensor, pairs: Tensor, state: Maybe) -> tuple[Tensor, Tensor]:
    """The output ``[B, L, D]`` and the compartments after the last token, ``[B, 2 P, D]``."""
    x, pairs, state = x.contiguous(), pairs.contiguous(), _contiguous(state)
    (B, L, D), P = x.shape, pairs.shape[1]
    y, kept = torch.empty_like(x), x.new_empty(B, 2 * P, D)
    places = x.data_ptr(), _address(state), y.data_ptr(), kept.data_ptr()
    native().dendritic_forward(pairs.data_ptr(), P, *places, B, L, D, torch.get_num_threads())
    return y, kept


def backward(grad_y: Tensor, grad_last: Maybe, x: Tensor, pairs: Tensor, state: Maybe) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of ``x``, ``pairs`` and the state before the first token."""
    x, pairs, grad_y = x.contiguous(), pairs.contiguous(), grad_y.contiguous()
    state, grad_last = _contiguous(state), _contiguous(grad_last)
    (B, L, D), P = x.shape, pairs.shape[1]
    grad_x, grad_pairs, grad_state = torch.empty_like(x), torch.empty_like(pairs), x.new_empty(B, 2 * P, D)
    given = x.data_ptr(), _address(state), grad_y.data_ptr(), _address(grad_last)
    found = grad_x.data_ptr(), grad_state.data_ptr(), grad_pairs.data_ptr()
    native().dendritic_backward(pairs.data_ptr(), P, *given, *found, B, L, D, torch.get_num_threads())
    return grad_x, grad_pairs, grad_state


def _contiguous(x: Maybe) -> Maybe:
    return None if x is None else x.contiguous()


def _address(x: Maybe) -> int:
    return 0 if x is None else x.data_ptr()
