"""Turning pictures in [0, 1] into spikes or currents over time."""

from __future__ import annotations

import torch
from torch import Tensor


def _check(x: Tensor, T: int) -> None:
    if T < 1:
        raise ValueError(f"T must be at least 1, got {T}")
    if x.numel() and not (float(x.min()) >= 0 and float(x.max()) <= 1):
        raise ValueError(f"expected values in [0, 1], got [{float(x.min()):g}, {float(x.max()):g}]")


def direct(x: Tensor, T: int) -> Tensor:
    """Constant current: ``x`` at every step, ``[N, ...] -> [T, N, ...]`` without a copy. Source: Rathi & Roy (2021)."""
    if T < 1:
        raise ValueError(f"T must be at least 1, got {T}")
    return x.unsqueeze(0).expand(T, *x.shape)


def rate(x: Tensor, T: int, generator: torch.Generator | None = None) -> Tensor:
    """Bernoulli spikes of probability ``x`` at every step, ``[N, ...] -> [T, N, ...]``. Source: Diehl & Cook (2015)."""
    _check(x, T)
    noise = torch.rand((T, *x.shape), generator=generator, dtype=x.dtype, device=x.device)
    return (noise < x).to(x.dtype)


def latency(x: Tensor, T: int) -> Tensor:
    """One spike a value, the brighter the earlier: at step ``round((1 - x) * (T - 1))``; zero never fires.

    ``[N, ...] -> [T, N, ...]``. Source: Thorpe et al. (2001), linear form.
    """
    _check(x, T)
    when = torch.round((1 - x) * (T - 1)).long()
    steps = torch.arange(T, device=x.device).view(-1, *[1] * x.dim())
    return ((steps == when) & (x > 0)).to(x.dtype)
