"""VGG networks of spiking neurons: VGG-16 for images, VGGSNN for events.

Source: the networks of Wei et al. (2025), QP-SNN, arXiv 2502.05905, as its tables' sizes fix them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from saccade.layers import AvgPool2d, BatchNorm2d, Conv2d, Linear, MaxPool2d
from saccade.models.base import Normalise, SpikingModel
from saccade.models.channels import ChannelGroup
from saccade.models.registry import ModelCard, register
from saccade.models.syna_resnet import CIFAR_MEAN, CIFAR_STD
from saccade.neurons import neuron

VGG16 = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
VGGSNN = (64, 128, 256, 256, 512, 512, 512, 512)
SMALL = (32, 64, 64, 96, 96, 128)


class Vgg(SpikingModel):
    """conv3x3 - BN - neuron, one after another; max pooling (an OR of spikes) after the layers numbered in ``pools``.

    channels: of every convolution, in order (pruned networks have odd ones). The first has a bias, as released. The head
    sees a map of ``size`` x ``size`` after the last average pooling.
    """

    def __init__(
        self,
        channels: Sequence[int],
        pools: Sequence[int],
        T: int,
        num_classes: int,
        in_channels: int,
        size: int,
        preset: str,
        readout: str,
    ) -> None:
        statistics = (CIFAR_MEAN, CIFAR_STD) if in_channels == 3 else (None, None)
        super().__init__(T, num_classes, Normalise(in_channels, *statistics), readout)
        self.stem = nn.Sequential(Conv2d(in_channels, channels[0], 3, 1, 1), BatchNorm2d(channels[0]))
        self.stem_neuron = neuron(preset)
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise(channels), start=1):
            if i in pools:
                layers.append(MaxPool2d(2))
            layers += [Conv2d(a, b, 3, 1, 1, bias=False), BatchNorm2d(b), neuron(preset)]
        self.layers = nn.Sequential(*layers, AvgPool2d(2))
        self.head = Linear(channels[-1] * size * size, num_classes)

    def step_logits(self, x: Tensor) -> Tensor:
        x = self.stem_neuron(self.in_time(self.stem(x)))
        return self.head(self.layers(x).flatten(-3))

    def channel_groups(self) -> dict[str, ChannelGroup]:
        """One for every convolution but the last."""
        convs = [i for i, layer in enumerate(self.layers) if isinstance(layer, Conv2d)]
        groups = {"stem": ChannelGroup((("stem.0", "stem.1"),), ("stem_neuron",), ((f"layers.{convs[0]}", 1),))}
        for number, (i, following) in enumerate(pairwise(convs), start=1):
            producer = (f"layers.{i}", f"layers.{i + 1}")
            groups[f"conv{number}"] = ChannelGroup((producer,), (f"layers.{i + 2}",), ((f"layers.{following}", 1),))
        return groups


def vgg16(
    T: int = 4,
    num_classes: int = 10,
    channels: Sequence[int] = VGG16,
    image_size: int = 32,
    preset: str = "qp",
    readout: str = "mean",
) -> SpikingModel:
    if image_size % 32:
        raise ValueError(f"vgg16 halves its maps five times: image_size must be a multiple of 32, got {image_size}")
    return Vgg(channels, (2, 4, 7, 10), T, num_classes, 3, image_size // 32, preset, readout)


def vggsnn(
    T: int = 10,
    num_classes: int = 10,
    channels: Sequence[int] = VGGSNN,
    image_size: int = 48,
    preset: str = "qp",
    readout: str = "mean",
) -> SpikingModel:
    if image_size % 16:
        raise ValueError(f"vggsnn halves its maps four times: image_size must be a multiple of 16, got {image_size}")
    return Vgg(channels, (2, 4, 6), T, num_classes, 2, image_size // 16, preset, readout)


def vgg_small(
    T: int = 2,
    num_classes: int = 10,
    channels: Sequence[int] = SMALL,
    image_size: int = 32,
    preset: str = "qp",
    readout: str = "mean",
) -> SpikingModel:
    if image_size % 16:
        raise ValueError(f"vgg_small halves its maps four times: image_size must be a multiple of 16, got {image_size}")
    return Vgg(channels, (1, 3, 5), T, num_classes, 3, image_size // 16, preset, readout)


_SOURCE = "Wei et al. (2025), QP-SNN, arXiv 2502.05905"
register(ModelCard("vgg16", "VGG-16 with max pooling", _SOURCE, (3, 32, 32), vgg16))
register(ModelCard("vgg_small", "six convolutions, for two cores: 311,114 parameters", _SOURCE, (3, 32, 32), vgg_small))
register(ModelCard("vggsnn", "VGGSNN for events of 48x48", _SOURCE, (2, 48, 48), vggsnn))
