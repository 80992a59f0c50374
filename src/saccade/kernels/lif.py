"""The leaky integrate-and-fire recurrence, every variant of it: one function in three forms."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from saccade.kernels import forms, reference
from saccade.kernels.onlookers import operators_only, torch_only
from saccade.kernels.operator import FORMULAS, NONE, RESETS, Call, Constants, FusedLIF, dense, lif_operator
from saccade.kernels.spike import Surrogate


def lif(
    x: Tensor,
    v0: Tensor | None = None,
    *,
    decay: float | Tensor,
    gain: float | Tensor,
    v_th: float | Tensor,
    v_rest: float = 0.0,
    v_reset: float = 0.0,
    reset: str = "hard",
    detach_reset: bool = True,
    surrogate: Surrogate,
    last: bool = True,
    record: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Run a layer of LIF neurons over a whole sequence.

    For every step, in this order of operations::

        u = v_rest + decay * (v - v_rest) + gain * x[t]      charge
        s = 1 if v_th <= u < inf else 0                      fire
        v = u * (1 - s) + v_reset * s                        reset "hard"
            u - v_th * s                                     reset "soft"
            u                                                reset "none"

    Shapes: ``x`` is ``[T, N, ...]``; ``v0`` (default: rest) and the returned last potential are ``[N, ...]``; ``decay``,
    ``gain`` and ``v_th`` are numbers or tensors that broadcast against ``[N, ...]``.
    Returns ``(spikes, v_last, potentials)``: spikes as ``x``, in its dtype; ``v_last`` is None unless ``last``;
    ``potentials`` are the ``u`` of every step (before reset) if ``record``, else None. Half-precision input is integrated
    in float32. ``detach_reset`` keeps the reset out of the gradient.
    A potential that is NaN or infinite never fires: it stays as it is and shows in the potentials and the state.

    The form is chosen by device (``saccade.kernels.forms``). All give the same spikes and potentials, bit for bit in
    float32; float64 input and surrogates of one's own run in the reference. The native and Triton forms keep only ``x``
    for the way back, and take any dense order of ``[N, ...]`` (channels last too) without copying it; an ``x`` made by
    ``expand`` over time is read, and its gradient summed over time, in place.

    Raises ValueError for an unknown ``reset``, an input without a time and a batch axis, or constants or a state that do
    not fit it; TypeError for input that is not floating.
    Source: Gerstner & Kistler (2002) ch. 4, discretised as in Wu et al. (2018) eq. 1-2.
    """
    if x.dim() < 2:
        raise ValueError(f"a neuron takes [T, N, ...], got a {x.dim()}-dimensional input")
    if not x.is_floating_point():
        raise TypeError(f"a neuron takes floating input, got {x.dtype}")
    if v0 is not None and v0.shape != x.shape[1:]:
        raise ValueError(f"a state {list(v0.shape)} does not fit an input {list(x.shape)}")
    tensors = [c for c in (decay, gain, v_th) if isinstance(c, Tensor)]
    if tensors:
        decay, gain, v_th = (_fitting(c, x) if isinstance(c, Tensor) else c for c in (decay, gain, v_th))
    compiling = torch.compiler.is_compiling()  # the compiler reads through a cache, with a warning
    cached = not compiling and "formula" in vars(type(surrogate))  # a surrogate of one's own may have no hash
    build = _known_constants if cached else _constants
    fixed = [None if isinstance(c, Tensor) else c for c in (decay, gain, v_th)] if tensors else (decay, gain, v_th)
    found = build(tuple(fixed), v_rest, v_reset, reset, detach_reset, surrogate)
    form = forms.form_for(x.device.type)
    if form == "reference" or found is None or x.dtype == torch.float64 or torch_only() or x.numel() == 0:
        return reference.lif(x, v0, decay, gain, v_th, v_rest, v_reset, reset, detach_reset, surrogate, last, record)

    spread: tuple[Tensor | None, ...] = NONE
    if tensors:
        spread = tuple(c if isinstance(c, Tensor) else None for c in (decay, gain, v_th))
    if v0 is not None:
        v0 = v0.float()
    if operators_only(x):
        spikes, v, u = lif_operator(x, v0, *spread, list(found.numbers), list(found.choices), last, record)
        return spikes, v if last else None, u if record else None
    steps = 0
    if x.stride(0) == 0:
        x, steps = _once(x)
    call = Call(found, form, steps, last, record)
    given = (v0, *spread) if tensors or v0 is not None else ()
    if not torch.is_grad_enabled():
        return call.forward(*dense(x, steps), given)
    result: Any = FusedLIF.apply(x, call, *given)
    return result if last or record else (result, None, None)


def _constants(
    fixed: tuple[Any, ...],  # decay, gain, v_th; None where a tensor is given
    v_rest: float,
    v_reset: float,
    reset: str,
    detach_reset: bool,
    surrogate: Surrogate,
) -> Constants | None:
    """The constants as the fused forms take them; None for a surrogate that they do not know."""
    if reset not in RESETS:
        raise ValueError(f"reset must be one of {', '.join(RESETS)}, got {reset!r}")
    formula = vars(type(surrogate)).get("formula")  # of this very class: a subclass may have changed its derivative
    if formula not in FORMULAS:
        return None
    numbers = (*(c or 0.0 for c in fixed), v_rest, v_reset, surrogate.parameter)
    return Constants(numbers, (RESETS.index(reset), int(detach_reset), FORMULAS.index(formula)))


_known_constants: Any = lru_cache(maxsize=1024)(_constants)


def _fitting(constant: Tensor, x: Tensor) -> Tensor:
    shape, steps = constant.shape, x.shape[1:]
    if len(shape) > len(steps) or any(a not in (1, b) for a, b in zip(shape[::-1], steps[::-1], strict=False)):
        raise ValueError(f"a constant of shape {list(shape)} does not broadcast against a step {list(steps)}")
    return constant.to(torch.float64 if x.dtype == torch.float64 else torch.float32)


def _once(x: Tensor) -> tuple[Tensor, int]:
    """What an ``[T, N, ...]`` without a stride over time was expanded from, and T; else the input itself and 0.

    The neuron then reads one step T times and sums the gradient itself, instead of writing T steps of it.
    """
    if x.shape[0] < 2:
        return x, 0
    if not x.requires_grad:
        return x[0], x.shape[0]
    base = x._base
    node: Any = x.grad_fn
    if (
        base is not None
        and node is not None
        and node.name() == "ExpandBackward0"
        and base.shape == x.shape[1:]
        and base.stride() == x.stride()[1:]
        and base.data_ptr() == x.data_ptr()
        and not x.retains_grad
        and not x._backward_hooks  # someone wants to see the gradient of every step
    ):
        return base, x.shape[0]
    return x, 0
