"""A linear layer of square patches: next to no stem, so that what comes behind it has to do the work.

With a convolutional stem the attention hardly matters on small pictures; comparisons of attentions use this one.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from saccade.layers.norms import BatchNorm2d
from saccade.layers.stems.base import STEMS, Stem, StemConfig
from saccade.layers.weighted import Conv2d
from saccade.neurons import NeuronConfig


@dataclass(frozen=True)
class LinearStemConfig(StemConfig):
    """conv patch x patch, stride patch - BN - [neuron]. Source: Dosovitskiy et al. (2021), ViT."""

    patch: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patch < 1:
            raise ValueError(f"patch must be at least one pixel, got {self.patch}")

    def build(self, inputs: int, width: int, neuron: NeuronConfig) -> Stem:
        conv = Conv2d(inputs, width, self.patch, self.patch, bias=False)
        rest = [] if self.membrane else [neuron.build(channels=width)]
        return Stem(nn.Sequential(conv, BatchNorm2d(width)), nn.Sequential(*rest))


STEMS.register("linear", LinearStemConfig())
