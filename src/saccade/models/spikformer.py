"""Spikformer: the first transformer of spikes. Its shortcuts add spikes to spikes, so that the stream holds small integers.

Source: Zhou et al. (2023), arXiv 2209.15425, and its released code. The layer norms that the code builds and never calls are
left out, so counts agree with the released networks without those (29.68 M are printed for 8-512, which has 29.71 M with
the biases that its linear layers have).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from saccade.layers import Blocks, Linear
from saccade.layers.attention import Site
from saccade.layers.attention.ssa_kv import SSAConfig
from saccade.layers.stems import STEMS, StemConfig
from saccade.models.base import SpikingModel, preset
from saccade.models.registry import ModelCard, register
from saccade.models.transformer import TransformerConfig, check_columns, spike_blocks


@dataclass(frozen=True)
class SpikformerConfig(TransformerConfig):
    """A stem, then ``depth`` pairs of an attention and two layers of one ``width``, ``heads`` heads each."""

    num_classes: int = 1000
    stem: StemConfig = preset("sps", STEMS, pools="1111")
    width: int = 512
    heads: int = 8
    depth: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_columns(self.width, self.heads, self.depth)

    def build(self) -> Spikformer:
        return Spikformer(self)


class Spikformer(SpikingModel):
    """See ``SpikformerConfig``."""

    def __init__(self, config: SpikformerConfig) -> None:
        c = config
        super().__init__(c, c.normalise(), c.example_size())
        self.stem = c.stem.build(self.in_channels, c.width, c.neuron)
        site = Site(c.width, c.heads, c.neuron, c.T)
        self.blocks = Blocks(*(b for _ in range(c.depth) for b in spike_blocks(c.attention, site, c.mlp_ratio)))
        self.head = Linear(c.width, c.num_classes)

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        x = self.stem.rest(self.in_time(self.stem.first(x), T))
        return self.head(self.blocks(x).mean((-2, -1)))


_SOURCE = "Zhou et al. (2023), arXiv 2209.15425"
_IMAGENET = SpikformerConfig()
_CIFAR = SpikformerConfig(input="cifar", num_classes=10, stem=STEMS["sps"])
_EVENTS = replace(_IMAGENET, input="events", num_classes=10, T=16, attention=SSAConfig(scale=0.25))


def _register(name: str, size: int, config: SpikformerConfig) -> None:
    words = f"self-attention of spikes, {config.depth} pairs of blocks of width {config.width}"
    channels = 2 if config.input == "events" else 3
    register(ModelCard(f"spikformer_{name}", words, _SOURCE, (channels, size, size), config))


for _depth, _width in ((8, 384), (6, 512), (8, 512), (10, 512), (8, 768)):
    _register(f"{_depth}_{_width}", 224, replace(_IMAGENET, width=_width, depth=_depth))
_register("4_384_cifar", 32, replace(_CIFAR, width=384, depth=4, heads=12))
_register("2_384_cifar", 32, replace(_CIFAR, width=384, depth=2, heads=12))
_register("4_256_cifar", 32, replace(_CIFAR, width=256, depth=4))
_register("2_256_dvs", 128, replace(_EVENTS, width=256, depth=2, heads=16))
_register("small", 32, replace(_CIFAR, width=64, depth=2, heads=4))
