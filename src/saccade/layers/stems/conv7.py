"""One large convolution, as in residual networks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from saccade.layers.norms import BatchNorm2d
from saccade.layers.pooling import MaxPool2d
from saccade.layers.stems.base import STEMS, Stem, StemConfig
from saccade.layers.weighted import Conv2d
from saccade.neurons import NeuronConfig


@dataclass(frozen=True)
class Conv7Config(StemConfig):
    """conv - BN - [max-pool 3x3 stride 2] - [neuron]. bias: of the convolution, idle before its norm.

    Source: Shi et al. (2024), SpikingResformer; without a pool and with a bias Yao et al. (2024), Meta-SpikeFormer.
    """

    membrane: bool = True
    kernel: int = 7
    stride: int = 2
    pool: bool = True
    bias: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel < 1 or self.kernel % 2 == 0 or self.stride < 1:
            raise ValueError(f"kernel must be odd and stride at least 1, got {self.kernel} and {self.stride}")

    def build(self, inputs: int, width: int, neuron: NeuronConfig) -> Stem:
        conv = Conv2d(inputs, width, self.kernel, self.stride, self.kernel // 2, bias=self.bias)
        first = [conv, BatchNorm2d(width), *([MaxPool2d(3, 2, 1)] if self.pool else [])]
        rest = [] if self.membrane else [neuron.build(channels=width)]
        return Stem(nn.Sequential(*first), nn.Sequential(*rest))


STEMS.register("conv7", Conv7Config())
