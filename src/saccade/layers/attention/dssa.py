"""Dual spike self-attention: a spiking map of scores between all places and coarser ones, of SpikingResformer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saccade.graph.records import Counts
from saccade.layers.attention.base import ATTENTIONS, Attention, AttentionConfig, Site, emitted, to_heads, to_maps
from saccade.layers.norms import BatchNorm2d
from saccade.layers.recompute import running_again
from saccade.layers.weighted import Conv2d
from saccade.neurons import NeuronConfig


@dataclass(frozen=True)
class DSSAConfig(AttentionConfig):
    """``A = SN(y1^T s / sqrt(f_s d/h))``, ``O = SN(y2 A / sqrt(f_A M))``; y1, y2 = BN(conv p x p, stride p, of spikes s).

    M: the number of coarse places. f_s, f_A: firing rates of s and A by head, running means as a batch norm has them. They
    begin with the first batch and are kept above ``least``: released code divides by zero where a head is silent.
    reduction: p; None is that of the place in the network (``ops`` and ``state`` then speak of 1).
    Every product has one operand of spikes and one of currents.
    Source: Shi et al. (2024), SpikingResformer, arXiv 2403.14302, eq. 9-14.
    """

    reduction: int | None = None
    momentum: float = 0.001
    least: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reduction is not None and self.reduction < 1:
            raise ValueError(f"reduction must be at least 1, got {self.reduction}")
        if not (0 < self.momentum <= 1 and 0 < self.least <= 1):
            raise ValueError(f"momentum and least must be in (0, 1], got {self.momentum} and {self.least}")

    def build(self, site: Site) -> DSSA:
        return DSSA(self, site)

    def ops(self, N: int, d: int, h: int) -> Counts:
        coarse = N // (self.reduction or 1) ** 2
        return Counts(dense_macs=2 * N * coarse * d + 2 * N * d * d, mults=2 * coarse * d, norm=2 * coarse * d)

    def output(self, neuron: NeuronConfig) -> tuple[float, ...]:
        return emitted(neuron)

    def state(self, N: int, d: int, h: int) -> int:
        return h * N * N // (self.reduction or 1) ** 2


class FiringRate(nn.Module):
    """The firing rate of each head ``[h]`` of spikes ``[T, N, h, ...]``, a running mean that starts with the first batch."""

    def __init__(self, heads: int, momentum: float, least: float) -> None:
        super().__init__()
        self.momentum, self.least = momentum, least
        self.register_buffer("running_mean", torch.ones(heads))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long))

    def forward(self, spikes: Tensor) -> Tensor:
        rate, batches = self.get_buffer("running_mean"), self.get_buffer("num_batches_tracked")
        if self.training and not running_again():
            with torch.no_grad():
                now = spikes.float().mean((0, 1, 3, 4)).to(rate.dtype)
                weight = torch.where(batches == 0, 1.0, self.momentum)
                rate.add_(weight.to(rate.dtype) * (now - rate))
                batches.add_(1)
        return rate.clone().clamp(min=self.least)


class DSSA(Attention):
    """See ``DSSAConfig``."""

    parts = ()
    config: DSSAConfig

    def __init__(self, config: DSSAConfig, site: Site) -> None:
        super().__init__(config, site)
        self.p = config.reduction or site.reduction
        d = site.channels
        self.coarse = nn.Sequential(Conv2d(d, 2 * d, self.p, self.p, bias=False), BatchNorm2d(2 * d))
        self.spike_rate, self.score_rate = (FiringRate(site.heads, config.momentum, config.least) for _ in range(2))
        self.scores = site.neuron.build()
        self.neuron = site.neuron.build(channels=d)

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) < self.p:
            raise ValueError(f"a map {list(x.shape[-2:])} is smaller than the reduction {self.p} of its attention")
        y: Tensor = self.neuron(self.mix(x))
        return y

    def mix(self, *parts: Tensor) -> Tensor:
        (x,) = parts
        spikes = to_heads(x, self.heads)
        first, second = to_heads(self.coarse(x), self.heads).chunk(2, 3)
        size = self.spike_rate(spikes) * first.shape[3]
        scores = self.scores((first * _root(size, first)).transpose(-1, -2) @ spikes)
        size = self.score_rate(scores) * first.shape[4]
        return to_maps((second * _root(size, second)) @ scores, x)


def _root(size: Tensor, like: Tensor) -> Tensor:
    """``1 / sqrt(size)`` of each head, shaped for ``[T, N, h, d, L]``."""
    return size.rsqrt().view(-1, 1, 1).to(like.dtype)


ATTENTIONS.register("dssa", DSSAConfig())
