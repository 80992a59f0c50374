"""The fused LIF as a PyTorch operator: layouts, allocation, autograd, and the registration that torch.compile sees."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from saccade.kernels import forms

NONE = (None, None, None)
RESETS = ("hard", "soft", "none")
FORMULAS = ("atan", "sigmoid", "triangle", "rectangle", "gaussian", "straight_through")


class Constants(NamedTuple):
    """numbers: decay, gain, v_th (0 where a tensor is given), v_rest, v_reset, the surrogate's parameter.
    choices: index of the reset, whether it is detached, index of the surrogate."""

    numbers: tuple[float, ...]
    choices: tuple[int, ...]


class Layout(NamedTuple):
    """T steps of M neurons, in any dense order with time outermost; ``once``: one step, shown T times."""

    T: int
    M: int
    once: bool
    shape: tuple[int, ...]  # of the spikes
    stride: tuple[int, ...]


def dense(x: Tensor, steps: int) -> tuple[Tensor, Layout]:
    """``x`` itself, or a contiguous copy if its steps are not dense, and its layout."""
    once = steps > 0
    if x.numel() == 0:
        x = x.new_empty(x.shape)  # its strides may be anything
    elif not x.is_contiguous():
        expected = 1
        for size, stride in sorted(zip(x.shape, x.stride(), strict=True), key=lambda axis: axis[1]):
            if size != 1 and stride != expected:
                x = x.contiguous()
                break
            expected *= size
        if not once and x.shape[0] != 1 and x.stride(0) * x.shape[0] != x.numel():
            x = x.contiguous()  # time is not outermost
    if once:
        M = x.numel()
        return x, Layout(steps, M, True, (steps, *x.shape), (M, *x.stride()))
    M = math.prod(x.shape[1:])
    return x, Layout(
        x.shape[0], M, False, x.shape, (M, *x.stride()[1:])
    )  # of one step, torch may say any stride of time


def like(x: Tensor, layout: Layout) -> Tensor:
    """``x`` in a layout: itself if it already is."""
    if x.stride() == layout.stride:
        return x
    return torch.empty_strided(layout.shape, layout.stride, dtype=x.dtype, device=x.device).copy_(x)


def step_like(x: Tensor | None, layout: Layout) -> Tensor | None:
    """A state or its gradient, ``[N, ...]``, in the layout of a step: itself if it already is."""
    if x is None or x.stride() == layout.stride[1:]:
        return x
    return torch.empty_strided(layout.shape[1:], layout.stride[1:], dtype=x.dtype, device=x.device).copy_(x)


def values_by_neuron(tensor: Tensor, layout: Layout) -> tuple[Tensor, int, int]:
    """A constant as ``values, size, inner``, such that neuron i of a step has ``values[(i // inner) % size]``."""
    shape, stride = layout.shape[1:], layout.stride[1:]
    offset = len(shape) - tensor.dim()
    axes = [axis + offset for axis, size in enumerate(tensor.shape) if size > 1]
    if not axes:
        return tensor.contiguous(), 1, 1
    if len(axes) == 1:
        return tensor.contiguous(), shape[axes[0]], stride[axes[0]]
    return torch.empty_strided(shape, stride, device=tensor.device).copy_(tensor), layout.M, 1


class Call(NamedTuple):
    """One call of the fused neuron, but for its tensors (v0, decay, gain, v_th: given together or not at all)."""

    constants: Constants
    form: str
    steps: int
    last: bool
    record: bool

    def forward(
        self, x: Tensor, layout: Layout, tensors: tuple[Tensor | None, ...]
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        v0, spread = (tensors[0], tensors[1:]) if tensors else (None, NONE)
        result: tuple[Tensor, Tensor | None, Tensor | None] = kernel(self.form).forward(
            x, layout, v0, spread, self.constants, self.last, self.record
        )
        return result


class FusedLIF(torch.autograd.Function):
    """The eager way: an autograd function around the kernels costs less for each call than an operator."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Call, *tensors: Tensor | None) -> Tensor | tuple[Tensor | None, ...]:
        x, layout = dense(x, call.steps)
        ctx.save_for_backward(x, *tensors)
        ctx.call = call, layout
        result = call.forward(x, layout, tensors)
        if not call.last and not call.record:
            return result[0]
        ctx.set_materialize_grads(False)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("the fused neurons have no second derivative; use saccade.kernels.use('reference')")
        x, *tensors = ctx.saved_tensors
        call, layout = ctx.call
        needs = ctx.needs_input_grad
        v0, spread = (tensors[0], tuple(tensors[1:])) if tensors else (None, NONE)
        grads = grads if len(grads) == 3 else (*grads, None, None)
        found = kernel(call.form).backward(grads, x, layout, v0, spread, call.constants, (needs[0], *needs[2:]))
        return (found[0], None, *found[1:]) if tensors else (found[0], None)


def kernel(form: str) -> Any:
    """The module with ``forward`` and ``backward`` of the fused neuron in a form."""
    return forms.implementation("lif", form)


# What torch.compile, export and dispatch modes see. Outputs that were not asked for are empty tensors.


@torch.library.custom_op("saccade::lif", mutates_args=())
def lif_operator(
    x: Tensor,
    v0: Tensor | None,
    decay: Tensor | None,
    gain: Tensor | None,
    v_th: Tensor | None,
    numbers: list[float],
    choices: list[int],
    last: bool,
    record: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    x, layout = dense(x, 0)
    constants = Constants(tuple(numbers), tuple(choices))
    fused = kernel(forms.form_for(x.device.type))
    s, v, u = fused.forward(x, layout, v0, (decay, gain, v_th), constants, last, record)
    nothing = x.new_empty(0, dtype=torch.float32)
    return s, nothing if v is None else v, nothing.clone() if u is None else u


@torch.library.custom_op("saccade::lif_backward", mutates_args=())
def lif_backward_operator(
    grad_s: Tensor | None,
    grad_v: Tensor | None,
    grad_u: Tensor | None,
    x: Tensor,
    v0: Tensor | None,
    decay: Tensor | None,
    gain: Tensor | None,
    v_th: Tensor | None,
    numbers: list[float],
    choices: list[int],
    needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    x, layout = dense(x, 0)
    constants = Constants(tuple(numbers), tuple(choices))
    fused = kernel(forms.form_for(x.device.type))
    found = fused.backward((grad_s, grad_v, grad_u), x, layout, v0, (decay, gain, v_th), constants, needs)
    a, b, c, d, e = (x.new_empty(0) if g is None else g for g in found)
    return a, b, c, d, e


@lif_operator.register_fake
def _(x: Any, v0: Any, decay: Any, gain: Any, v_th: Any, numbers: Any, choices: Any, last: bool, record: bool) -> Any:
    x, layout = dense(x, 0)

    def step(wanted: bool) -> Tensor:
        shape, stride = (layout.shape[1:], layout.stride[1:]) if wanted else ((0,), (1,))
        return torch.empty_strided(shape, stride, dtype=torch.float32, device=x.device)

    spikes = torch.empty_strided(layout.shape, layout.stride, dtype=x.dtype, device=x.device)
    return spikes, step(last), torch.empty_like(spikes, dtype=torch.float32) if record else step(False)


@lif_backward_operator.register_fake
def _(
    grad_s: Any,
    grad_v: Any,
    grad_u: Any,
    x: Any,
    v0: Any,
    decay: Any,
    gain: Any,
    v_th: Any,
    numbers: Any,
    choices: Any,
    needs: Any,
) -> Any:
    x, layout = dense(x, 0)
    grad_v0 = torch.empty_strided(layout.shape[1:], layout.stride[1:], dtype=torch.float32, device=x.device)
    outputs = [torch.empty_strided(layout.shape, layout.stride, dtype=x.dtype, device=x.device), grad_v0]
    outputs += [x.new_empty(0) if c is None else torch.empty(c.shape, device=x.device) for c in (decay, gain, v_th)]
    return tuple(y if need else x.new_empty(0) for y, need in zip(outputs, needs, strict=True))


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, numbers, choices, last, record = inputs
    ctx.save_for_backward(*tensors)
    ctx.call = numbers, choices
    ctx.asked = True, last, record
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, *grads: Any) -> Any:
    numbers, choices = ctx.call
    x, *others = ctx.saved_tensors
    needs = [bool(need) for need in ctx.needs_input_grad[:5]]
    kept = [g if asked else None for g, asked in zip(grads, ctx.asked, strict=True)]
    found = lif_backward_operator(*kept, x, *others, numbers, choices, needs)
    return (*(g if need else None for g, need in zip(found, needs, strict=True)), None, None, None, None)


lif_operator.register_autograd(_backward, setup_context=_setup)
