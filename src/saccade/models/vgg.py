"""VGG networks of spiking neurons: VGG-16 for images, VGGSNN for events.

Source: the networks of Wei et al. (2025), QP-SNN, arXiv 2502.05905, as its tables' sizes fix them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from saccade.layers import AvgPool2d, BatchNorm2d, Conv2d, Linear, MaxPool2d
from saccade.models.base import CIFAR, ClassifierConfig, Normalise, SpikingModel, preset
from saccade.models.registry import ModelCard, register
from saccade.neurons import NeuronConfig


@dataclass(frozen=True)
class VggConfig(ClassifierConfig):
    """conv3x3 - BN - neuron, one after another; max pooling (an OR of spikes) before the convolutions numbered in ``pools``.

    channels: of every convolution, in order (pruned networks have odd ones). The first has a bias, as released. The head sees
    the whole map after a last average pooling, so ``image_size`` (a side, or height and width) is part of the model.
    """

    channels: tuple[int, ...] = (32, 64, 64, 96, 96, 128)
    pools: tuple[int, ...] = (1, 3, 5)
    in_channels: int = 3
    image_size: int | tuple[int, int] = 32
    neuron: NeuronConfig = preset("qp")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.channels or min(*self.channels, self.in_channels) < 1:
            raise ValueError(f"channels are whole numbers from 1, got {self.channels}")
        halvings = len(self.pools) + 1
        if any(side < 1 or side % 2**halvings for side in self.size):
            raise ValueError(
                f"image_size: maps are halved {halvings} times, so sides must be multiples of {2**halvings}, "
                f"got {self.image_size}"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size

    def build(self) -> Vgg:
        return Vgg(self)


class Vgg(SpikingModel):
    """See ``VggConfig``."""

    def __init__(self, config: VggConfig) -> None:
        c = config
        statistics = CIFAR if c.in_channels == 3 else (None, None)
        super().__init__(c, Normalise(c.in_channels, *statistics), c.size)
        self.stem = nn.Sequential(Conv2d(c.in_channels, c.channels[0], 3, 1, 1), BatchNorm2d(c.channels[0]))
        self.stem_neuron = c.neuron.build(channels=c.channels[0])
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise(c.channels), start=1):
            if i in c.pools:
                layers.append(MaxPool2d(2))
            layers += [Conv2d(a, b, 3, 1, 1, bias=False), BatchNorm2d(b), c.neuron.build(channels=b)]
        self.layers = nn.Sequential(*layers, AvgPool2d(2))
        places = (c.size[0] >> len(c.pools) + 1) * (c.size[1] >> len(c.pools) + 1)
        self.head = Linear(c.channels[-1] * places, c.num_classes)

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        if tuple(x.shape[-2:]) != self.input_size:
            size = "x".join(map(str, self.input_size))
            raise ValueError(
                f"images of {x.shape[-2]}x{x.shape[-1]} do not fit a model built for image_size {size}: "
                "its head reads whole maps"
            )
        x = self.stem_neuron(self.in_time(self.stem(x), T))
        return self.head(self.layers(x).flatten(-3))


_SOURCE = "Wei et al. (2025), QP-SNN, arXiv 2502.05905"
_VGG16 = VggConfig(
    T=4, channels=(64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512), pools=(2, 4, 7, 10), image_size=32
)
_VGGSNN = VggConfig(
    T=10, channels=(64, 128, 256, 256, 512, 512, 512, 512), pools=(2, 4, 6), in_channels=2, image_size=48
)
register(ModelCard("vgg16", "VGG-16 with max pooling", _SOURCE, (3, 32, 32), _VGG16))
register(
    ModelCard("vgg_small", "six convolutions, for two cores: 311,114 parameters", _SOURCE, (3, 32, 32), VggConfig(T=2))
)
register(ModelCard("vggsnn", "VGGSNN for events of 48x48", _SOURCE, (2, 48, 48), _VGGSNN))
