"""Spiking patch embedding with deformed shortcut: convolutions with a spiking shortcut around them, of QKFormer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from saccade.layers.norms import BatchNorm2d
from saccade.layers.pooling import MaxPool2d
from saccade.layers.residual import CONNECTIONS, ResidualBlock, SpikingShortcut
from saccade.layers.stems.base import STEMS, Stem, StemConfig
from saccade.layers.weighted import Conv2d
from saccade.neurons import NeuronConfig


def layers_of(channels: Sequence[int], pools: Sequence[bool], neuron: NeuronConfig) -> list[nn.Module]:
    """conv3x3 - BN - [max-pool of stride 2] - neuron for each pair of channels."""
    layers: list[nn.Module] = []
    for (a, b), pool in zip(pairwise(channels), pools, strict=True):
        layers += [Conv2d(a, b, 3, padding=1, bias=False), BatchNorm2d(b), *([MaxPool2d(3, 2, 1)] if pool else [])]
        layers.append(neuron.build(channels=b))
    return layers


def embedding(channels: Sequence[int], pools: Sequence[bool], neuron: NeuronConfig) -> ResidualBlock:
    """``layers_of`` these, and a spiking 1x1 shortcut around them that is added: spikes in, sums of two spikes out."""
    ends = channels[0], channels[-1]
    shortcut = SpikingShortcut(
        *ends, 2 ** sum(pools), nn.Identity(), neuron.build(channels=channels[-1], role="shortcut")
    )
    return ResidualBlock(nn.Sequential(*layers_of(channels, pools, neuron)), shortcut, CONNECTIONS["add"])


@dataclass(frozen=True)
class SPEDSConfig(StemConfig):
    """Convolutions of the widths that ``shares`` says (of the whole) and pools where ``pools`` says, the last in a shortcut.

    before: how many of the convolutions come before the shortcut begins.
    Published: (0.5, 1, 1) and "110" on ImageNet, (0.5, 1) and "00" on CIFAR, (0.25, 0.5, 1) and "111", two before, on events.
    Source: Zhou et al. (2024), QKFormer, arXiv 2403.16552, eq. 14-16, with the widths that its released counts have.
    """

    shares: tuple[float, ...] = (0.5, 1.0, 1.0)
    pools: str = "110"
    before: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.pools) != len(self.shares) or set(self.pools) - set("01"):
            raise ValueError(f"pools has a digit 0 or 1 for each of the shares {self.shares}, got {self.pools!r}")
        if not 1 <= self.before < len(self.shares) or self.shares[-1] != 1 or min(self.shares) <= 0:
            raise ValueError(f"shares end in 1, and some but not all come before the shortcut, got {self.shares}")
        if self.membrane:
            raise ValueError("this stem ends in a sum of spikes, so membrane must be false")

    def build(self, inputs: int, width: int, neuron: NeuronConfig) -> Stem:
        channels = [inputs, *(max(round(width * share), 1) for share in self.shares)]
        pools = [digit == "1" for digit in self.pools]
        plain = layers_of(channels[: self.before + 1], pools[: self.before], neuron)
        cut = embedding(channels[self.before :], pools[self.before :], neuron)
        fire = next(i for i, layer in enumerate(plain) if hasattr(layer, "levels"))
        return Stem(nn.Sequential(*plain[:fire]), nn.Sequential(*plain[fire:], cut))


STEMS.register("speds", SPEDSConfig())
