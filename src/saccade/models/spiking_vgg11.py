"""Spiking VGG-11, on which defences against attacks are compared.

Source: Ding et al. (2022), SNN-RAT, as released; later papers on robust spiking networks use the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn

from saccade.layers import AvgPool2d, BatchNorm2d, Conv2d, Linear
from saccade.models.base import CIFAR, ClassifierConfig, Normalise, SpikingModel, preset
from saccade.models.registry import ModelCard, register
from saccade.neurons import NeuronConfig


@dataclass(frozen=True)
class SpikingVgg11Config(ClassifierConfig):
    """(conv3x3 with bias - BN - neuron) for each of ``channels``, average pooling after those numbered, from 1, in ``pools``;
    then (linear - neuron) for each of ``hidden``, and a linear read-out of the classes. image_size: the side of an image, of
    which the first linear layer reads the whole map.
    """

    T: int = 8
    channels: tuple[int, ...] = (64, 128, 256, 512, 512, 512, 512, 512)
    pools: tuple[int, ...] = (1, 3, 6)
    hidden: tuple[int, ...] = (4096, 4096)
    image_size: int = 32
    in_channels: int = 3
    neuron: NeuronConfig = preset("rat")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.channels or min(*self.channels, *self.hidden, self.in_channels) < 1:
            raise ValueError(f"channels and hidden are whole numbers from 1, got {self.channels} and {self.hidden}")
        if any(not 1 <= number <= len(self.channels) for number in self.pools):
            raise ValueError(f"pools are numbers of convolutions, 1 to {len(self.channels)}, got {self.pools}")
        if self.image_size < 1 or self.image_size % 2 ** len(self.pools):
            raise ValueError(
                f"image_size must be a multiple of {2 ** len(self.pools)}, as maps are halved {len(self.pools)} times, "
                f"got {self.image_size}"
            )

    def build(self) -> SpikingVgg11:
        return SpikingVgg11(self)


class SpikingVgg11(SpikingModel):
    """See ``SpikingVgg11Config``."""

    def __init__(self, config: SpikingVgg11Config) -> None:
        c = config
        statistics = CIFAR if c.in_channels == 3 else (None, None)
        super().__init__(c, Normalise(c.in_channels, *statistics), (c.image_size, c.image_size))
        layers: list[nn.Module] = []
        before = c.in_channels
        for number, width in enumerate(c.channels, 1):
            conv = Conv2d(before, width, 3, padding=1)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            layers += [conv, BatchNorm2d(width), c.neuron.build(channels=width)]
            if number in c.pools:
                layers.append(AvgPool2d(2))
            before = width
        self.stem, self.layers = nn.Sequential(*layers[:2]), nn.Sequential(*layers[2:])
        head: list[nn.Module] = []
        inputs = before * (c.image_size >> len(c.pools)) ** 2
        for width in c.hidden:
            head += [_linear(inputs, width), c.neuron.build(channels=width, channel_axis=-1)]
            inputs = width
        self.head = nn.Sequential(*head, _linear(inputs, c.num_classes))

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        if tuple(x.shape[-2:]) != self.input_size:
            side = self.input_size[0]
            raise ValueError(
                f"images of {x.shape[-2]}x{x.shape[-1]} do not fit a model built for image_size {side}: "
                "its head reads whole maps"
            )
        x = self.layers(self.in_time(self.stem(x), T))
        return self.head(x.flatten(-3))


def _linear(inputs: int, outputs: int) -> Linear:
    layer = Linear(inputs, outputs)
    nn.init.zeros_(layer.bias)
    return layer


_SOURCE = "Ding et al. (2022), SNN-RAT; the networks of Wang et al. (2026), arXiv 2602.20548"
_VGG = SpikingVgg11Config()
register(ModelCard("spiking_vgg11", "VGG-11 with average pooling, of papers on attacks", _SOURCE, (3, 32, 32), _VGG))
register(
    ModelCard(
        "spiking_vgg11_small",
        "the same, narrow, for two cores",
        _SOURCE,
        (3, 32, 32),
        replace(_VGG, T=4, channels=(16, 32, 32, 64, 64, 64, 64, 64), hidden=(128, 128)),
    )
)
