"""Counting rules of sums, means, maxima and pools."""

from __future__ import annotations

from fractions import Fraction
from math import prod

import torch
from torch import Tensor

from saccade.graph import geometry as geo
from saccade.graph.alphabet import Alphabet
from saccade.graph.call import Call
from saccade.graph.records import Counts, OpRecord
from saccade.graph.rules.elementwise import extremum
from saccade.graph.rules.registry import counts


@counts("max", "min", "amax", "amin")
def reduce_max(call: Call) -> Alphabet | None:
    x = call.args[0]
    if isinstance(call.arg(1, "other"), Tensor):
        return extremum(call)
    call.count(comparisons=x.numel() - call.out.numel())
    return call.alphabet(x)


@counts("argmax", "argmin")
def arg_extremum(call: Call) -> Alphabet | None:
    call.count(comparisons=call.args[0].numel() - call.out.numel())
    return None


@counts("sum", "mean")
def sum_or_mean(call: Call) -> Alphabet | None:
    x = call.args[0]
    window = x.numel() // max(call.out.numel(), 1)
    mean, alphabet = call.name == "mean", call.alphabet(x)
    if alphabet is None:
        call.count(adds=x.numel(), mults=call.out.numel() * mean)
        return None
    call.count(adds=int(call.event_sum(x)))
    total = alphabet.summed(window)
    return total.scale(Fraction(1, window)) if mean and total else total


def _pool_axes(call: Call, axes: int) -> tuple[list[Tensor], int, bool]:
    """Fan-out per axis of a pool, taps of one window, and whether every window divides by the same number."""
    x, out = call.args[0], call.out
    if "adaptive" in call.name:
        sizes = list(zip(x.shape[-axes:], out.shape[-axes:], strict=True))
        even = all(size % o == 0 for size, o in sizes)
        return [geo.adaptive_fanout(size, o) for size, o in sizes], prod(size // o for size, o in sizes), even
    average = "avg" in call.name
    kernel = geo.per_axis(call.arg(1, "kernel_size"), axes)
    stride = geo.per_axis(call.arg(2, "stride") or kernel, axes)
    padding = geo.per_axis(call.arg(3, "padding", 0), axes)
    dilation = [1] * axes if average else geo.per_axis(call.arg(4, "dilation", 1), axes)
    vectors, even = [], True
    for i in range(axes):
        size, o = x.shape[i - axes], out.shape[i - axes]
        vectors.append(geo.window_fanout(size, o, kernel[i], stride[i], padding[i], dilation[i]))
        inside = int(vectors[-1].sum()) == o * kernel[i]
        even &= inside or (
            bool(call.arg(5, "count_include_pad", True)) and ((o - 1) * stride[i] + kernel[i] <= size + 2 * padding[i])
        )
    return vectors, prod(kernel), even


def _axes(call: Call) -> int:
    return int(call.name.split("pool")[1][0])


@counts("max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool2d", "adaptive_max_pool3d")
def max_pool(call: Call) -> Alphabet | None:
    axes = _axes(call)
    x = call.args[0]
    vectors, taps, _ = _pool_axes(call, axes)
    compared = prod(x.shape[:-axes]) * geo.all_reached(vectors) - call.out.numel()
    op = "elementwise" if "adaptive" in call.name else "maxpool"
    call.record(OpRecord(call.where, op, taps, outputs=call.out.numel(), counts=Counts(comparisons=compared)))
    return call.alphabet(x)


@counts("avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d")
def avg_pool(call: Call) -> Alphabet | None:
    axes = _axes(call)
    x, alphabet = call.args[0], call.alphabet(call.args[0])
    vectors, taps, even = _pool_axes(call, axes)
    if alphabet is None:
        call.count(adds=prod(x.shape[:-axes]) * geo.all_reached(vectors), mults=call.out.numel())
        return None
    events = call.event_sum(x, tuple(range(x.dim() - axes)))
    call.count(adds=geo.reached(events, vectors))
    divisor = (call.arg(6, "divisor_override") or taps) if "adaptive" not in call.name else taps
    total = alphabet.summed(taps) if even else None
    return total.scale(Fraction(1, divisor)) if total else None


def _along(call: Call) -> int:
    """Elements of the axis that an operation runs along."""
    x: Tensor = call.args[0]
    return x.shape[call.arg(1, "dim", -1)] if x.dim() else 1


@counts("prod", "cumprod")
def product(call: Call) -> Alphabet | None:
    """Products of n elements take n - 1 multiplications; of spikes of size one, a coincidence where both factors fire."""
    x = call.args[0]
    dim = call.arg(1, "dim")
    n = x.numel() if dim is None else _along(call)
    rows = x.numel() // max(n, 1)
    alphabet = call.alphabet(x)
    if alphabet is None or alphabet.unit != 1 or max(abs(alphabet.low), abs(alphabet.high)) > 1:
        call.count(mults=x.numel() - rows)
        return None
    fires = call.steps(x) != 0
    running = (fires.flatten() if dim is None else fires.movedim(dim, -1)).to(torch.uint8).cumprod(-1)
    call.count(ands=int(running[..., 1:].count_nonzero()))
    return alphabet


@counts("sort")
def sort(call: Call) -> Alphabet | None:
    """``n ceil(log2 n)`` comparisons for n elements along the axis; the values are those that came."""
    x = call.args[0]
    call.count(comparisons=x.numel() * _log2(_along(call)))
    return call.alphabet(x)


@counts("topk")
def topk(call: Call) -> Alphabet | None:
    """``n ceil(log2 (k + 1))`` comparisons for n elements along the axis (a heap of k); the values are those that came."""
    call.count(comparisons=call.args[0].numel() * _log2(int(call.args[1]) + 1))
    return call.alphabet(call.args[0])


def _log2(n: int) -> int:
    return max(n - 1, 0).bit_length()
