"""SpikingResformer: stages of residual networks, with dual spike self-attention and grouped convolutions in the blocks.

Source: Shi et al. (2024), arXiv 2403.14302, and its released code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn

from saccade.layers import BatchNorm2d, Blocks, Conv2d, Linear, MembraneBlock
from saccade.layers.attention import ATTENTIONS, AttentionConfig, Site, pointwise
from saccade.layers.stems import STEMS, StemConfig
from saccade.layers.stems.conv7 import Conv7Config
from saccade.models.base import SpikingModel, preset
from saccade.models.registry import ModelCard, register
from saccade.models.transformer import TransformerConfig
from saccade.neurons import NEURONS, NeuronConfig


@dataclass(frozen=True)
class SpikingResformerConfig(TransformerConfig):
    """Stages of ``widths`` with ``heads`` and ``depths`` each; maps halve between them.

    reductions: how much coarser than a place the attention of each stage sees the others. group: channels of a group of the
    3x3 convolution inside the feed-forward block.
    """

    num_classes: int = 1000
    attention: AttentionConfig = preset("dssa", ATTENTIONS)
    stem: StemConfig = preset("conv7", STEMS)
    neuron: NeuronConfig = preset("lif")
    widths: tuple[int, ...] = (64, 192, 384)
    heads: tuple[int, ...] = (1, 3, 6)
    reductions: tuple[int, ...] = (4, 2, 1)
    depths: tuple[int, ...] = (1, 2, 3)
    group: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        stages = (self.widths, self.heads, self.reductions, self.depths)
        if len({len(values) for values in stages}) != 1 or min((self.group, *(v for s in stages for v in s))) < 1:
            raise ValueError("widths, heads, reductions and depths are as many whole numbers from 1, and so is group")
        if any(width % heads for width, heads in zip(self.widths, self.heads, strict=True)):
            raise ValueError(f"widths {self.widths} do not divide into heads {self.heads}")
        if any(round(width * self.mlp_ratio) % self.group for width in self.widths):
            raise ValueError(f"widths {self.widths} times {self.mlp_ratio:g} do not divide into groups of {self.group}")

    def build(self) -> SpikingResformer:
        return SpikingResformer(self)


class SpikingResformer(SpikingModel):
    """See ``SpikingResformerConfig``."""

    def __init__(self, config: SpikingResformerConfig) -> None:
        c = config
        super().__init__(c, c.normalise(), c.example_size())
        self.stem = c.stem.build(self.in_channels, c.widths[0], c.neuron)
        layers: list[nn.Module] = []
        before = c.widths[0]
        for stage, (width, heads, reduction, depth) in enumerate(
            zip(c.widths, c.heads, c.reductions, c.depths, strict=True)
        ):
            if stage:
                layers.append(_convolution(c.neuron, before, width, 2))
            site = Site(width, heads, c.neuron, c.T, reduction)
            for _ in range(depth):
                mixer = c.attention.build(site)
                branch = (c.neuron.build(channels=width), mixer, pointwise(mixer.out_channels, width))
                layers += [MembraneBlock(nn.Sequential(*branch), nn.Identity()), feed_forward(c, width)]
            before = width
        self.blocks = Blocks(*layers)
        self.head = Linear(before, c.num_classes, bias=False)

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        x = self.stem.rest(self.in_time(self.stem.first(x), T))
        return self.head(self.blocks(x).mean((-2, -1)))


def _convolution(neuron: NeuronConfig, inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Module:
    """SN - conv3x3 - BN: currents to currents."""
    conv = Conv2d(inputs, outputs, 3, stride, 1, groups=groups, bias=False)
    return nn.Sequential(neuron.build(channels=inputs), conv, BatchNorm2d(outputs))


def feed_forward(c: SpikingResformerConfig, width: int) -> nn.Module:
    """``x + BN(1x1(SN(y + BN(grouped 3x3(SN(y))))))`` with ``y = BN(1x1(SN(x)))`` of ``mlp_ratio`` times the width."""
    inside = round(width * c.mlp_ratio)
    grouped = _convolution(c.neuron, inside, inside, groups=inside // c.group)
    branch = (
        c.neuron.build(channels=width),
        pointwise(width, inside),
        MembraneBlock(grouped, nn.Identity()),
        c.neuron.build(channels=inside),
        pointwise(inside, width),
    )
    return MembraneBlock(nn.Sequential(*branch), nn.Identity())


_SOURCE = "Shi et al. (2024), arXiv 2403.14302"
_BASE = SpikingResformerConfig()


def _register(name: str, input_: tuple[int, int, int], config: SpikingResformerConfig) -> None:
    words = f"dual spike self-attention in residual stages of widths {', '.join(map(str, config.widths))}"
    register(ModelCard(f"spiking_resformer_{name}", words, _SOURCE, input_, config))


for _name, _widths, _heads in (
    ("ti", (64, 192, 384), (1, 3, 6)),
    ("s", (64, 256, 512), (1, 4, 8)),
    ("m", (64, 384, 768), (1, 6, 12)),
    ("l", (128, 512, 1024), (2, 8, 16)),
):
    _register(_name, (3, 224, 224), replace(_BASE, widths=_widths, heads=_heads))
_CIFAR = replace(_BASE, input="cifar", num_classes=10, stem=Conv7Config(kernel=3, stride=1, pool=False))
_register("cifar", (3, 32, 32), _CIFAR)
_register(
    "gesture",
    (2, 128, 128),
    replace(
        _BASE,
        input="events",
        T=16,
        num_classes=11,
        widths=(32, 96, 192),
        group=32,
        neuron=NEURONS["plif"],
        stem=Conv7Config(kernel=3, stride=1, pool=True),
    ),
)
_register("small", (3, 32, 32), replace(_CIFAR, widths=(16, 32, 64), heads=(1, 2, 4), depths=(1, 1, 1), group=16))
