"""Turning pictures in [0, 1] into spikes or currents over time."""

from __future__ import annotations

from collections.abc import Sequence

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


def low_pass(x: Tensor, widths: Sequence[int]) -> Tensor:
    """Each step a picture without its high frequencies: ``[N, ..., H, W] -> [T, N, ..., H, W]``, T the number of ``widths``.

    In step t the centred spectrum is kept in rows and columns ``[centre - widths[t], centre + widths[t])``; the picture is
    the magnitude of what comes back. Gradients pass. Source: FEEL-SNN (2024), whose released widths are 16, 14, ..., 2 for T =
    8 and 32x32; which end of a range counts is our choice. Raises ValueError for a width below 1.
    """
    if not widths or min(widths) < 1:
        raise ValueError(f"widths are half the sides of masks, whole numbers from 1, one a step; got {tuple(widths)}")
    spectrum = torch.fft.fftshift(torch.fft.fft2(x), dim=(-2, -1))
    steps = []
    for width in widths:
        inside = []
        for side in x.shape[-2:]:
            at = torch.arange(side, device=x.device) - side // 2
            inside.append((at >= -width) & (at < width))
        mask = inside[0][:, None] & inside[1]
        steps.append(torch.fft.ifft2(torch.fft.ifftshift(spectrum * mask, dim=(-2, -1))).abs())
    return torch.stack(steps)
