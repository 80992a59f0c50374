"""What the transformers of spikes share: their inputs, and the two kinds of blocks that they are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from saccade.layers import CONNECTIONS, MembraneBlock, ResidualBlock
from saccade.layers.attention import ATTENTIONS, AttentionConfig, Site, pointwise
from saccade.models.base import CIFAR, IMAGENET, ClassifierConfig, Normalise, preset
from saccade.neurons import NeuronConfig

# pixel statistics, channels, height = width of an example
INPUTS: dict[str, tuple[Any, int, int]] = {
    "imagenet": (IMAGENET, 3, 64),
    "cifar": (CIFAR, 3, 32),
    "events": ((None, None), 2, 64),
}


@dataclass(frozen=True)
class TransformerConfig(ClassifierConfig):
    """What they all are asked.

    input: "imagenet" and "cifar" are pixels with those statistics, "events" frames of two polarities.
    attention: a name of ``ATTENTIONS``, or one with other settings. neuron: of the whole network.
    mlp_ratio: width of the hidden layer of a block's two, over that of its ends.
    """

    input: str = "imagenet"
    mlp_ratio: float = 4.0
    attention: AttentionConfig = preset("ssa_kv", ATTENTIONS)
    neuron: NeuronConfig = preset("spikformer")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.input not in INPUTS:
            raise ValueError(f"input must be one of {', '.join(INPUTS)}, got {self.input!r}")
        if not self.mlp_ratio > 0:
            raise ValueError(f"mlp_ratio must be above 0, got {self.mlp_ratio}")

    def normalise(self) -> Normalise:
        statistics, channels, _ = INPUTS[self.input]
        return Normalise(channels, *statistics)

    def example_size(self) -> tuple[int, int]:
        size = INPUTS[self.input][2]
        return size, size


def spike_blocks(attention: AttentionConfig, site: Site, ratio: float, bias: bool = True) -> list[nn.Module]:
    """``x + SN(BN(W A(x)))`` and ``x + SN(BN(W2 SN(BN(W1 x))))``: what is added is spikes, so the stream counts them.

    bias: of W, W1 and W2, which their norms make idle; released networks have them.
    """
    d, fire = site.channels, site.neuron.build
    mixer = attention.build(site)
    hidden = round(d * ratio)
    attend = nn.Sequential(mixer, pointwise(mixer.out_channels, d, bias), fire(channels=d))
    mlp = nn.Sequential(pointwise(d, hidden, bias), fire(channels=hidden), pointwise(hidden, d, bias), fire(channels=d))
    return [ResidualBlock(branch, nn.Identity(), CONNECTIONS["add"]) for branch in (attend, mlp)]


def membrane_blocks(attention: AttentionConfig, site: Site, ratio: float, bias: bool = True) -> list[nn.Module]:
    """``x + BN(W A(SN(x)))`` and ``x + BN(W2 SN(BN(W1 SN(x))))``: currents are added, and every W is fed by spikes."""
    mixer = attention.build(site)
    project = pointwise(mixer.out_channels, site.channels, bias)
    attend = nn.Sequential(site.neuron.build(channels=site.channels), mixer, project)
    return [MembraneBlock(attend, nn.Identity()), currents(site.neuron, site.channels, ratio, bias)]


def currents(neuron: NeuronConfig, width: int, ratio: float, bias: bool = True) -> nn.Module:
    """``x + BN(W2 SN(BN(W1 SN(x))))``."""
    return MembraneBlock(two_layers(neuron, width, ratio, bias), nn.Identity())


def two_layers(neuron: NeuronConfig, width: int, ratio: float, bias: bool = True) -> nn.Sequential:
    """``BN(W2 SN(BN(W1 SN(x))))``."""
    hidden = round(width * ratio)
    first, second = pointwise(width, hidden, bias), pointwise(hidden, width, bias)
    return nn.Sequential(neuron.build(channels=width), first, neuron.build(channels=hidden), second)


def check_columns(width: int, heads: int, depth: int) -> None:
    """Raises ValueError for a network of one width that cannot be."""
    if min(width, heads, depth) < 1 or width % heads:
        raise ValueError(f"width {width} is to be a multiple of heads {heads}, and depth at least 1, got {depth}")
