"""Spiking patch splitting: four convolutions of growing width, pools between them, and a relative position embedding."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from saccade.layers.norms import BatchNorm2d
from saccade.layers.pooling import MaxPool2d
from saccade.layers.residual import CONNECTIONS, MembraneBlock, ResidualBlock
from saccade.layers.stems.base import STEMS, Stem, StemConfig
from saccade.layers.weighted import Conv2d
from saccade.neurons import NeuronConfig


@dataclass(frozen=True)
class SPSConfig(StemConfig):
    """conv3x3 - BN - neuron - max-pool, four times, of width/8, /4, /2 and 1; then ``x + neuron(BN(conv3x3(x)))``.

    pools: behind which of the four a 3x3 max-pool of stride 2 stands ("1111" for 224 pixels, "0011" for 32, "0111" for 64).
    membrane: the last stage pools currents, and the embedding adds currents: ``x + BN(conv3x3(neuron(x)))``.
    Source: Zhou et al. (2023), Spikformer, eq. 4-5; with membranes Yao et al. (2023), Spike-driven Transformer, as released.
    """

    pools: str = "0011"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.pools) != 4 or set(self.pools) - set("01"):
            raise ValueError(f"pools says by four digits 0 or 1 where a pool stands, got {self.pools!r}")

    def convolution(self, inputs: int, outputs: int) -> nn.Module:
        """Of one stage, 3x3 and without a bias."""
        return Conv2d(inputs, outputs, 3, padding=1, bias=False)

    def build(self, inputs: int, width: int, neuron: NeuronConfig) -> Stem:
        if width % 8:
            raise ValueError(f"the stem grows from width/8, so width is a multiple of 8, got {width}")
        channels = (inputs, width // 8, width // 4, width // 2, width)
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise(channels)):
            pool = [MaxPool2d(3, 2, 1)] if self.pools[i] == "1" else []
            layers += [self.convolution(a, b), BatchNorm2d(b)]
            layers += pool if self.membrane and i == 3 else [neuron.build(channels=b), *pool]
        embedding = (Conv2d(width, width, 3, padding=1, bias=False), BatchNorm2d(width))
        fire = neuron.build(channels=width)
        if self.membrane:
            layers.append(MembraneBlock(nn.Sequential(fire, *embedding), nn.Identity()))
        else:
            layers.append(ResidualBlock(nn.Sequential(*embedding, fire), nn.Identity(), CONNECTIONS["add"]))
        return Stem(nn.Sequential(*layers[:2]), nn.Sequential(*layers[2:]))


STEMS.register("sps", SPSConfig())
