"""How many outputs each input position reaches: exact at borders, strides and dilations.

Windows are separable, so a position's fan-out is the product over the axes of a small vector per axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod

import torch
from torch import Tensor


def window_fanout(size: int, out: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> Tensor:
    """Fan-out along one axis of a convolution or pool: int64 `[size]`.

    Element `i` counts the pairs (output `o < out`, tap `k < kernel`) with `o*stride - padding + k*dilation == i`.
    """
    taps = torch.arange(out)[:, None] * stride - padding + torch.arange(kernel)[None] * dilation
    return torch.bincount(taps[(taps >= 0) & (taps < size)], minlength=size)


def transposed_fanout(size: int, out: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> Tensor:
    """Fan-out along one axis of a transposed convolution: int64 `[size]`, taps that land inside `[0, out)`."""
    reached = torch.arange(size)[:, None] * stride - padding + torch.arange(kernel)[None] * dilation
    return ((reached >= 0) & (reached < out)).sum(1)


def adaptive_fanout(size: int, out: int) -> Tensor:
    """Fan-out along one axis of an adaptive pool (windows `floor(o*size/out)` to `ceil((o+1)*size/out)`): `[size]`."""
    fanout = torch.zeros(size, dtype=torch.int64)
    for o in range(out):
        fanout[o * size // out : ceil((o + 1) * size / out)] += 1
    return fanout


def per_axis(value: int | Sequence[int], axes: int) -> list[int]:
    """An operator's int or list argument as one int per spatial axis (lists of one stand for all axes)."""
    values = [value] if isinstance(value, int) else list(value)
    return values * axes if len(values) == 1 else values


def reached(events: Tensor, fanouts: Sequence[Tensor]) -> int:
    """Total fan-out of int64 `events` `[*spatial]`: sum of events times the product of the axes' fan-outs."""
    total = events
    for fanout in reversed(fanouts):
        total = (total * fanout.to(total.device)).sum(-1)
    return int(total)


def all_reached(fanouts: Sequence[Tensor]) -> int:
    """Total fan-out of one event at every position."""
    return prod(int(fanout.sum()) for fanout in fanouts)
