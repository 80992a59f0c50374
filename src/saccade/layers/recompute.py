"""Blocks that keep only their input for the way back, as bits where it is spikes, and run again there."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import get_device_states, set_device_states

from saccade.kernels.bits import pack_any, unpack

_again: contextvars.ContextVar[bool] = contextvars.ContextVar("saccade_again", default=False)


def running_again() -> bool:
    """True while a block runs a second time: running statistics have been updated already."""
    return not torch.compiler.is_compiling() and _again.get()  # the context variable would break a compiled graph


class Blocks(nn.Sequential):
    """``nn.Sequential`` whose children, with recomputation on (``set_recompute``), keep their input alone and run again in
    the backward pass.

    Gradients are the same, bit for bit; time grows by about a forward pass. Source: Chen et al. (2016), sublinear memory.
    """

    _recompute: bool = False

    def forward(self, input: Tensor) -> Tensor:
        for block in self:
            input = recomputed(block, input) if self._recompute else block(input)
        return input


def set_recompute(model: nn.Module, on: bool) -> None:
    """Switch recomputation on or off in all ``Blocks`` of a model (it is off). Raises ValueError if it has none."""
    found = [module for module in model.modules() if isinstance(module, Blocks)]
    if not found:
        raise ValueError(f"{type(model).__name__} has no saccade.layers.Blocks, so there is nothing to recompute")
    for blocks in found:
        blocks._recompute = on


def recomputes(model: nn.Module) -> bool:
    """Whether any ``Blocks`` of a model run again on the way back."""
    return any(isinstance(module, Blocks) and module._recompute for module in model.modules())


def recomputed(block: nn.Module, x: Tensor) -> Tensor:
    """``block(x)``, keeping ``x`` (as bits where it is spikes) instead of what the block keeps. Eager code only."""
    if not torch.is_grad_enabled() or torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        y: Tensor = block(x)
        return y
    result: Tensor = _Recomputed.apply(block, x, *(p for p in block.parameters() if p.requires_grad))
    return result


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, block: nn.Module, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.block = block
        ctx.random = torch.get_rng_state(), get_device_states(x)
        ctx.autocast = _autocast(x)
        bits = None if x.dtype == torch.float64 else pack_any(x)
        ctx.form = bits.form if bits else None
        ctx.save_for_backward(bits.planes if bits else x, *parameters)
        y: Tensor = block(x)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kept, *parameters = ctx.saved_tensors
        x = (kept if ctx.form is None else unpack(kept, ctx.form)).detach().requires_grad_(ctx.needs_input_grad[1])
        state, (devices, device_states) = ctx.random
        with torch.enable_grad(), torch.random.fork_rng(devices), _second_time(), ctx.autocast():
            torch.set_rng_state(state)
            set_device_states(devices, device_states)
            y = ctx.block(x)
        wanted = ([x] if ctx.needs_input_grad[1] else []) + parameters
        found = list(torch.autograd.grad(y, wanted, grads[0], allow_unused=True))
        return (None, found.pop(0) if ctx.needs_input_grad[1] else None, *found)


@contextlib.contextmanager
def _second_time() -> Iterator[None]:
    token = _again.set(True)
    try:
        yield
    finally:
        _again.reset(token)


def _autocast(x: Tensor) -> Any:
    kind = x.device.type
    on, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    return lambda: torch.autocast(kind, dtype, enabled=on)
