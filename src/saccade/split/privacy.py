"""Clipping and noise on what a client sends, and what they are worth.

Hidden states say almost everything about the text behind them: measure it (``saccade split audit``). Noise large enough for a
small epsilon leaves nothing to learn from; there is no epsilon here without the accountant that computed it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PrivacyFilter:
    """Each token's vector is held to an L2 norm of ``clip``, then gets Gaussian noise of standard deviation ``noise
    * clip``."""

    clip: float | None = None
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip is positive, got {self.clip:g}")
        if self.noise < 0 or (self.noise and self.clip is None):
            raise ValueError("noise is measured in clips: it is not negative, and needs clip")

    def apply(self, h: Tensor, generator: torch.Generator) -> Tensor:
        """``[N, L, D]`` filtered; gradients pass as if nothing had been added."""
        if self.clip is None:
            return h
        norms = h.detach().norm(dim=-1, keepdim=True)
        held = h * (self.clip / norms.clamp(min=self.clip))
        if not self.noise:
            return held
        return held + self.noise * self.clip * torch.randn(h.shape, generator=generator)


def gaussian_epsilon(noise: float, releases: int, delta: float) -> float:
    """Epsilon of ``(epsilon, delta)``-differential privacy of one token's vectors, released ``releases`` times each
    with Gaussian noise of ``noise`` clips.

    Local privacy, for replacing that token's vector by any other: two clipped vectors are at most 2 clips apart. Renyi
    divergence of order a of a release: ``2 a / noise^2``; releases add up (Mironov 2017); turned into epsilon as Canonne,
    Kamath and Steinke 2020 do. Other tokens' vectors depend on this one through attention, which this does not count.

    Raises ValueError for a delta outside (0, 1) or a negative number.
    """
    if not 0 < delta < 1 or releases < 0 or noise < 0:
        raise ValueError(
            f"delta lies in (0, 1), noise and releases are not negative: got {delta:g}, {noise:g}, {releases}"
        )
    if releases == 0:
        return 0.0
    if noise == 0:
        return math.inf
    orders = [1 + x / 10 for x in range(1, 100)] + [float(2**k) for k in range(4, 20)]
    orders += [1 + noise * math.sqrt(math.log(1 / delta) / (2 * releases))]  # near the best one
    values = [
        2 * a * releases / noise**2 + math.log((a - 1) / a) - (math.log(delta) + math.log(a)) / (a - 1) for a in orders
    ]
    return max(0.0, min(values))
