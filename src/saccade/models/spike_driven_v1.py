"""Spike-driven Transformer (v1): currents in the shortcuts, so that every layer is fed by spikes, and a mask for attention.

Source: Yao et al. (2023), arXiv 2307.01694, and its released code. The code's drop-path is built and never applied; it is left
out. The pools around the attention of its event models are an option of ``sdsa1``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from saccade.layers import Blocks, Linear
from saccade.layers.attention import ATTENTIONS, AttentionConfig, Site
from saccade.layers.attention.sdsa1 import SDSA1Config
from saccade.layers.stems import STEMS, StemConfig
from saccade.layers.stems.sps import SPSConfig
from saccade.models.base import SpikingModel, preset
from saccade.models.registry import ModelCard, register
from saccade.models.transformer import TransformerConfig, check_columns, membrane_blocks


@dataclass(frozen=True)
class SpikeDrivenV1Config(TransformerConfig):
    """A stem that ends in currents, then ``depth`` pairs of an attention and two layers of one ``width``."""

    num_classes: int = 1000
    attention: AttentionConfig = preset("sdsa1", ATTENTIONS)
    stem: StemConfig = preset("sps", STEMS, pools="1111", membrane=True)
    width: int = 512
    heads: int = 8
    depth: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_columns(self.width, self.heads, self.depth)

    def build(self) -> SpikeDrivenV1:
        return SpikeDrivenV1(self)


class SpikeDrivenV1(SpikingModel):
    """See ``SpikeDrivenV1Config``."""

    def __init__(self, config: SpikeDrivenV1Config) -> None:
        c = config
        super().__init__(c, c.normalise(), c.example_size())
        self.stem = c.stem.build(self.in_channels, c.width, c.neuron)
        site = Site(c.width, c.heads, c.neuron, c.T)
        self.blocks = Blocks(*(b for _ in range(c.depth) for b in membrane_blocks(c.attention, site, c.mlp_ratio)))
        self.last = c.neuron.build(channels=c.width)
        self.head = Linear(c.width, c.num_classes)

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        x = self.stem.rest(self.in_time(self.stem.first(x), T))
        return self.head(self.last(self.blocks(x).mean((-2, -1))))


_SOURCE = "Yao et al. (2023), arXiv 2307.01694"
_IMAGENET = SpikeDrivenV1Config()
_CIFAR = replace(_IMAGENET, input="cifar", num_classes=10, stem=SPSConfig(membrane=True))
_EVENTS = SpikeDrivenV1Config(
    input="events", num_classes=10, T=16, attention=SDSA1Config(pool=True), stem=SPSConfig(pools="0111", membrane=True)
)


def _register(name: str, size: int, config: SpikeDrivenV1Config) -> None:
    words = f"spike-driven attention by masks, {config.depth} pairs of blocks of width {config.width}"
    channels = 2 if config.input == "events" else 3
    register(ModelCard(f"sdt_v1_{name}", words, _SOURCE, (channels, size, size), config))


for _depth, _width in ((8, 384), (6, 512), (8, 512), (10, 512), (8, 768)):
    _register(f"{_depth}_{_width}", 224, replace(_IMAGENET, width=_width, depth=_depth))
_register("2_512_cifar", 32, replace(_CIFAR, width=512, depth=2))
_register("2_256_cifar", 32, replace(_CIFAR, width=256, depth=2))
_register("2_256_dvs", 128, replace(_EVENTS, width=256, depth=2))
_register("small", 32, replace(_CIFAR, width=64, depth=2, heads=4))
