"""Self-attention of spikes with local receptive fields: dilated depthwise convolutions of the values beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.graph.records import Counts
from saccade.layers.attention.base import ATTENTIONS, Site
from saccade.layers.attention.ssa_kv import SSA, SSAConfig
from saccade.layers.norms import BatchNorm2d
from saccade.layers.weighted import Conv2d


def check_dilations(dilations: tuple[int, ...]) -> None:
    """Raises ValueError for none, or a dilation below 1."""
    if not dilations or min(dilations) < 1:
        raise ValueError(f"dilations are whole numbers from 1, at least one of them, got {dilations}")


class LRFBranch(nn.Module):
    """``BN(sum over dilations of depthwise conv3x3(v))`` on maps: 9 weights a dilation and 2 of the norm for each channel."""

    def __init__(self, channels: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            Conv2d(channels, channels, 3, padding=d, dilation=d, groups=channels, bias=False) for d in dilations
        )
        self.norm = BatchNorm2d(channels)

    def forward(self, v: Tensor) -> Tensor:
        y: Tensor = self.convolutions[0](v)
        for convolution in self.convolutions[
            1:
        ]:  # one at a time: all of their maps at once would be the peak of memory
            y = y + convolution(v)
        return self.norm(y)

    def row(self, v: Tensor, at: int) -> Tensor:
        """Row ``at`` of ``forward(v)``, ``[T, N, C, 1, W]``, from the rows that it reads. Not for gradients."""
        height, width = v.shape[-2:]
        y = torch.zeros_like(v[..., at, :])
        convolution: Any
        for convolution in self.convolutions:
            d, weight = convolution.dilation[0], convolution.used_weight().squeeze(1)
            for i in range(3):
                source = at + (i - 1) * d
                if 0 <= source < height:
                    read = F.pad(v[..., source, :], (d, d))
                    for j in range(3):
                        y.addcmul_(weight[:, i, j, None], read[..., j * d : j * d + width])
        return self.norm(y.unsqueeze(-2))


@dataclass(frozen=True)
class LRFSSAConfig(SSAConfig):
    """``SN(scale * q (k^T v) + BN(sum over dilations of depthwise conv3x3(v)))``.

    dilations: (1, 3, 5), with the norm 29 numbers a channel of v: our reading of a paper that gives 3x3 kernels and Omega <= 5,
    which fits the counts that it prints for three of its four networks. Source: LRF-Dyn (2026), arXiv 2603.19290, eq. 8.
    """

    dilations: tuple[int, ...] = (1, 3, 5)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_dilations(self.dilations)

    def build(self, site: Site) -> LRFSSA:
        return LRFSSA(self, site)

    def ops(self, N: int, d: int, h: int) -> Counts:
        width, kernels = d * self.value_ratio, len(self.dilations)
        product = super().ops(N, d, h)
        return Counts(dense_macs=product.dense_macs + 9 * kernels * N * width, adds=kernels * N * width, norm=N * width)


class LRFSSA(SSA):
    """See ``LRFSSAConfig``."""

    config: LRFSSAConfig

    def __init__(self, config: LRFSSAConfig, site: Site) -> None:
        super().__init__(config, site)
        self.local = LRFBranch(self.out_channels, config.dilations)

    def mix(self, *parts: Tensor) -> Tensor:
        return super().mix(*parts) + self.local(parts[2])


ATTENTIONS.register("lrf_ssa", LRFSSAConfig())
