"""Packing spikes in Triton: on a GPU, or anywhere in Triton's interpreter (``TRITON_INTERPRET=1``), which is for tests.

In plain torch a packed tensor passes through whole numbers of 32 and 64 bits for every value, which takes longer than the
convolution it is packed for.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from saccade.kernels.triton_lif import launching

BLOCK = 256  # bytes of a program, eight values each


@triton.jit
def _pack(x, planes, bad, n, plane_bytes, unit, low, PLANES: tl.constexpr, BLOCK: tl.constexpr):
    byte = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    place = tl.arange(0, 8)
    at = byte[:, None] * 8 + place[None, :]
    value = tl.load(x + at, mask=at < n, other=0.0).to(tl.float32)
    index = tl.floor(value / unit - low + 0.5)
    off = ((index + low) * unit != value) | (index < 0.0) | (index >= (1 << PLANES))  # NaN differs from itself
    off = off & (at < n)
    if tl.max(tl.max(off.to(tl.int32), 1), 0) > 0:
        tl.store(bad, 1)
    whole = tl.where(off | (at >= n), 0.0, index).to(tl.int32)
    for j in tl.static_range(PLANES):
        bits = tl.sum(((whole >> j) & 1) << place[None, :], 1)
        tl.store(planes + j * plane_bytes + byte, bits.to(tl.uint8), mask=byte < plane_bytes)


@triton.jit
def _unpack(planes, x, n, plane_bytes, unit, low, PLANES: tl.constexpr, BLOCK: tl.constexpr):
    byte = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    place = tl.arange(0, 8)
    at = byte[:, None] * 8 + place[None, :]
    index = tl.zeros((BLOCK, 8), tl.int32)
    for j in tl.static_range(PLANES):
        bits = tl.load(planes + j * plane_bytes + byte, mask=byte < plane_bytes, other=0).to(tl.int32)
        index += ((bits[:, None] >> place[None, :]) & 1) << j
    value = (index.to(tl.float32) + low) * unit
    tl.store(x + at, value.to(x.dtype.element_ty), mask=at < n)


def pack(x: Tensor, unit: float, low: int, count: int, planes: Tensor) -> bool:
    """Values ``[n]`` into bit planes; False if one of them is not on the grid. Waits for the GPU to know."""
    bad = torch.zeros(1, dtype=torch.int32, device=x.device)
    _launch(_pack, planes, x, planes, bad, x.numel(), planes.shape[1], float(unit), float(low), PLANES=count)
    return not bool(bad)


def unpack(planes: Tensor, unit: float, low: int, count: int, x: Tensor) -> None:
    """Bit planes into values ``[n]``."""
    _launch(_unpack, planes, planes, x, x.numel(), planes.shape[1], float(unit), float(low), PLANES=count)


def _launch(kernel: Any, planes: Tensor, *arguments: Any, **constants: Any) -> None:
    if planes.numel():
        with launching(kernel, planes):
            kernel[(triton.cdiv(planes.shape[1], BLOCK),)](*arguments, **constants, BLOCK=BLOCK)
