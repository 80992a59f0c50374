"""Spikes as bits: a spike tensor in a 32nd of its memory, and exactly itself again."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from saccade.kernels import forms
from saccade.kernels.native_lif import TYPES


class Grid(NamedTuple):
    """The values ``(low + index) * unit`` with an index of ``planes`` bits: {0, 1} is (1, 0, 1), {-1, 0, 1} is (1, -1, 2)."""

    unit: float = 1.0
    low: int = 0
    planes: int = 1


# Spikes; sums of two to four spikes; ternary spikes; means of 2x2 spikes, and of 2x2 sums of spikes; halves.
GRIDS = (
    Grid(),
    Grid(1.0, 0, 2),
    Grid(1.0, -1, 2),
    Grid(0.25, 0, 3),
    Grid(0.25, 0, 4),
    Grid(0.5, 0, 2),
    Grid(1.0, 0, 3),
    Grid(0.25, -4, 4),
)


class Form(NamedTuple):
    """What a packed tensor was, beside its bits."""

    grid: Grid
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


class Bits(NamedTuple):
    """A packed tensor: bit planes ``[planes, bytes]`` (uint8), and what it was."""

    planes: Tensor
    form: Form


def pack_any(x: Tensor) -> Bits | None:
    """``x`` as bits on the first of ``GRIDS`` that every value lies on, or None."""
    packed = (pack(x, grid) for grid in GRIDS)
    return next((bits for bits in packed if bits is not None), None)


def pack(x: Tensor, grid: Grid) -> Bits | None:
    """``x``, a dense tensor of any shape in float32, bfloat16 or float16, as bits; None if a value is not on the grid."""
    if not _is_dense(x):
        x = x.contiguous()
    n = x.numel()
    plane_bytes = (n + 63) // 64 * 8
    planes = torch.empty(grid.planes, plane_bytes, dtype=torch.uint8, device=x.device)
    if _native(x):
        good = forms.native().pack(
            x.data_ptr(), TYPES[x.dtype], *grid, planes.data_ptr(), plane_bytes, n, torch.get_num_threads()
        )
    elif (triton := _triton(x)) is not None:
        good = triton.pack(x.as_strided((n,), (1,)), *grid, planes)
    else:
        good = _pack(x.as_strided((n,), (1,)), grid, planes)
    return Bits(planes, Form(grid, tuple(x.shape), x.stride(), x.dtype)) if good else None


def unpack(planes: Tensor, form: Form) -> Tensor:
    """The tensor that was packed, in its dtype and order of memory."""
    grid, shape, stride, dtype = form
    x = torch.empty_strided(shape, stride, dtype=dtype, device=planes.device)
    n = x.numel()
    if _native(x):
        forms.native().unpack(
            planes.data_ptr(), planes.shape[1], *grid, x.data_ptr(), TYPES[dtype], n, torch.get_num_threads()
        )
    elif (triton := _triton(x)) is not None:
        triton.unpack(planes, *grid, x.as_strided((n,), (1,)))
    else:
        shifts = torch.arange(8, device=planes.device)
        each = (planes.unsqueeze(-1) >> shifts & 1).flatten(1)[:, :n]  # [planes, n]
        index = torch.stack([each[j].int() << j for j in range(grid.planes)]).sum(0)
        x.as_strided((n,), (1,)).copy_((index + grid.low) * grid.unit)
    return x


def _native(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in TYPES and forms.form_for("cpu") == "native"


def _triton(x: Tensor) -> Any:
    """The module of the kernels in Triton where they are to run, else None."""
    return forms.implementation("bits", "triton") if forms.form_for(x.device.type) == "triton" else None


def _is_dense(x: Tensor) -> bool:
    return x.is_contiguous() or torch.empty_like(x, device="meta").stride() == x.stride()


def _pack(x: Tensor, grid: Grid, planes: Tensor) -> bool:
    """The same in plain torch, for other devices."""
    index = torch.round(x.float() / grid.unit - grid.low)
    off = ((index + grid.low) * grid.unit != x) | (index < 0) | (index >= 1 << grid.planes)
    if bool(off.any()):
        return False
    whole = torch.zeros(planes.shape[1] * 8, dtype=torch.int32, device=x.device)
    whole[: x.numel()] = index.int()
    weights = torch.tensor([1 << k for k in range(8)], dtype=torch.int32, device=x.device)
    for j in range(grid.planes):
        planes[j] = ((whole.view(-1, 8) >> j & 1) * weights).sum(1)
    return True
