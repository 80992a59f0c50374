"""SDTrack: one target followed through the events of a camera. Template and search region go in together, a box comes out.

Source: Shan et al. (2025), arXiv 2503.08703, and its released code. The body is E-SpikeFormer (Yao et al. 2025, Spike-driven
Transformer v3) without the separable convolution of its attention blocks; the head is that of OSTrack (Ye et al. 2022) with
neurons for rectifiers. Attention is ``q (k^T v)``, which equals the released ``(q k^T) v`` and is linear in the number of
tokens.

Neurons of the published variants: I-LIF 1 x 4 (``i_lif``, T = 1), I-LIF 2 x 2 (``i_lif`` with D = 2, stateful, decay 1/4;
T = 2), LIF 4 x 1 (``spikformer``, T = 4). The released I-LIF rounds halves to even, ours up: they differ at exact halves alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isqrt
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.layers import BatchNorm2d, Conv2d, Linear, MembraneBlock
from saccade.layers.attention import ATTENTIONS, AttentionConfig, Site, pointwise
from saccade.layers.joint import Size, corner_norms, corners, joint_maps, laid_out, taken_apart
from saccade.layers.stems.conv7 import Conv7Config
from saccade.models.base import ClassifierConfig, ModelConfig, Normalise, SpikingModel, preset
from saccade.models.meta_spikeformer import MetaSpikeformerConfig, convolution_blocks, down
from saccade.models.registry import ModelCard, register
from saccade.models.transformer import two_layers
from saccade.neurons import NeuronConfig

STRIDE = 16  # pixels of the input a side for a place of the map that the head reads
Positive = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class BodyConfig(ModelConfig):
    """What trackers and the classifiers that they start from share.

    widths: c, 2c, 4c and the last one (the first stage has c/2). depths: blocks of the five stages. inputs: channels of a
    frame. mean, std: what is taken off each channel, and what it is divided by (none: frames go in as they are, as released
    for FE108 and VisEvent).
    """

    T: int = 1
    neuron: NeuronConfig = preset("i_lif")
    attention: AttentionConfig = preset("ssa_kv", ATTENTIONS, scale=None, value_ratio=4, halve=False)
    widths: tuple[Positive, ...] = (64, 128, 256, 360)
    depths: tuple[Positive, ...] = (1, 1, 2, 6, 2)
    heads: Positive = 8
    mlp_ratio: Annotated[float, Field(gt=0)] = 4.0
    inputs: Positive = 3
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.widths) != 4 or len(self.depths) != 5:
            raise ValueError(f"widths are four and depths five numbers, got {self.widths} and {self.depths}")
        if self.widths[0] % 2 or any(width % self.heads for width in self.widths[2:]):
            raise ValueError(f"widths {self.widths} are an even one, and two that divide into {self.heads} heads last")
        if len(self.mean) not in (0, self.inputs) or len(self.std) != len(self.mean) or 0 in self.std:
            raise ValueError(f"mean and std are {self.inputs} numbers each, or none; no deviation is 0")

    def normalise(self) -> Normalise:
        return Normalise(self.inputs, self.mean or None, self.std or None)


@dataclass(frozen=True)
class SDTrackConfig(BodyConfig):
    """search, template: sides of the two regions, pixels, multiples of 16. The input is a canvas ``[N, C, search + template,
    search + template]``: the search region in the upper left, the template in the lower right corner, zeros elsewhere.

    search_factor, template_factor: sides of the regions cut out of a frame, in geometric means of a box's width and height.
    layout: "plain", the canvas goes through the convolutions as it is (published); "mask", what is outside the two regions
    stays 0 and out of the statistics (Mask IPL 2026, arXiv 2609.18716); "siamese", the regions go through them by themselves,
    under joint statistics. pads: empty tokens, a square number (published: 4, so that all tokens make a square).
    head: "centre" answers ``[N, 5, s, s]``: logit of the score, of width and height, offset in x and y; "corner" answers
    ``[N, 2, s, s]``: logits of the places of the upper left and the lower right corner. head_width: channels of its first
    layer. classifier: keep the idle classifier of 1,000 classes of the released base model.
    """

    search: Positive = 256
    template: Positive = 128
    search_factor: Annotated[float, Field(gt=0)] = 4.0
    template_factor: Annotated[float, Field(gt=0)] = 2.0
    layout: Literal["plain", "mask", "siamese"] = "plain"
    pads: Annotated[int, Field(ge=0)] = 4
    head: Literal["centre", "corner"] = "centre"
    head_width: Annotated[int, Field(ge=8)] = 256
    classifier: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.search % STRIDE or self.template % STRIDE:
            raise ValueError(
                f"search and template are multiples of {STRIDE} pixels, got {self.search}, {self.template}"
            )
        if isqrt(self.pads) ** 2 != self.pads:
            raise ValueError(f"pads is a square number, got {self.pads}")
        if self.head_width % 8:
            raise ValueError(f"head_width is a multiple of 8, got {self.head_width}")

    def build(self) -> SDTrack:
        return SDTrack(self)


@dataclass(frozen=True)
class SDTrackClassifierConfig(BodyConfig, ClassifierConfig):
    """The body of a tracker with a classifier on the mean of its tokens, to be trained on images ``[N, C, H, W]`` beforehand.

    side: of an image, pixels, a multiple of 16. The released weights come from such a training, without a published recipe.
    """

    num_classes: int = 1000
    side: Positive = 224

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.side % STRIDE:
            raise ValueError(f"side is a multiple of {STRIDE} pixels, got {self.side}")

    def build(self) -> SDTrackClassifier:
        return SDTrackClassifier(self)


class Body(nn.Module):
    """Everything between frames and head: ``begin`` makes tokens of convolutions, ``end`` mixes them by attention."""

    def __init__(self, c: BodyConfig, sides: Sequence[int], layout: str, pads: int) -> None:
        """sides: of the square regions, in the order of their tokens."""
        super().__init__()
        self.layout, self.sides, self.pads = layout, tuple(sides), pads
        blocks = MetaSpikeformerConfig(T=c.T, v3=True, neuron=c.neuron, mlp_ratio=c.mlp_ratio)
        c1, c2, c3, c4 = c.widths
        stem = Conv7Config(pool=False, bias=True).build(c.inputs, c1 // 2, c.neuron)
        stages = [self._laid(stem.first, 1)]
        before = c1 // 2
        for number, (width, depth) in enumerate(zip((c1 // 2, c1, c2), c.depths[:3], strict=True)):
            made = [] if number == 0 else [self._laid(down(c.neuron, before, width, 2), 2**number)]
            for _ in range(depth):
                made += [self._laid(block, 2 ** (number + 1)) for block in convolution_blocks(blocks, width)]
            stages.append(nn.Sequential(*made))
            before = width
        self.first = stages[0]
        self.stages = nn.Sequential(*stages[1:], self._laid(down(c.neuron, c2, c3, 2), 8))
        self.mixing = nn.Sequential(*(block for _ in range(c.depths[3]) for block in attention(c, c3)))
        self.widen = joint_maps(down(c.neuron, c3, c4, 1), self.places())
        self.last = nn.Sequential(*(block for _ in range(c.depths[4]) for block in attention(c, c4)))

    def places(self, by: int = STRIDE) -> list[Size]:
        """Sizes of the maps whose tokens stand side by side, the pads last."""
        found = [(side // by, side // by) for side in self.sides]
        return found + [(isqrt(self.pads),) * 2] * bool(self.pads and by == STRIDE)  # type: ignore[return-value]

    def _laid(self, module: nn.Module, shrunk: int) -> nn.Module:
        """A module for maps that are so many times smaller than the input, fit for the layout."""
        if self.layout == "siamese":
            return joint_maps(module, self.places(shrunk))
        if self.layout == "mask":
            template, search = self.sides
            by = 2 * shrunk if _halves(module) else shrunk
            return corner_norms(module, search // by, template // by)
        return module

    def forward(self, x: Tensor) -> Tensor:
        """The convolutions behind the first one, then the attentions: ``[T, N, C, ...] -> [T, N, C', 1, L]``."""
        x = self.stages(x)
        if self.layout != "siamese" and len(self.sides) > 1:
            template, search = (side // STRIDE for side in self.sides)
            x = laid_out([x[..., -template:, -template:], x[..., :search, :search]])
        elif len(self.sides) == 1:
            x = laid_out([x])
        if self.pads:
            x = F.pad(x, (0, self.pads))
        y: Tensor = self.last(self.widen(self.mixing(x)))
        return y


def _halves(module: nn.Module) -> bool:
    return any(isinstance(part, Conv2d) and part.stride == (2, 2) for part in module.modules())


def attention(c: BodyConfig, width: int) -> list[nn.Module]:
    """``x + BN(W A(SN(x)))``, then ``x + BN(W2 SN(BN(W1 SN(x))))``."""
    mixer = c.attention.build(Site(width, c.heads, c.neuron, c.T))
    attend = nn.Sequential(c.neuron.build(channels=width), mixer, pointwise(mixer.out_channels, width))
    branches = attend, two_layers(c.neuron, width, c.mlp_ratio)
    return [MembraneBlock(branch, nn.Identity()) for branch in branches]


def tower(c: SDTrackConfig, outputs: int) -> nn.Sequential:
    """Four times SN - conv3x3 - BN, each half as wide, and a 1x1 convolution that reads currents."""
    layers: list[nn.Module] = []
    before = c.widths[-1]
    for halvings in range(4):
        width = c.head_width >> halvings
        layers += [c.neuron.build(channels=before), Conv2d(before, width, 3, padding=1), BatchNorm2d(width)]
        before = width
    return nn.Sequential(*layers, Conv2d(before, outputs, 1))


class CentreHead(nn.Module):
    """Currents ``[T, N, C, s, s]`` to ``[T, N, 5, s, s]``: score, size, offset."""

    def __init__(self, c: SDTrackConfig) -> None:
        super().__init__()
        self.score, self.size, self.offset = tower(c, 1), tower(c, 2), tower(c, 2)

    def parts(self) -> tuple[nn.Module, ...]:
        return self.score, self.size, self.offset


class CornerHead(nn.Module):
    """Currents ``[T, N, C, s, s]`` to ``[T, N, 2, s, s]``: upper left and lower right corner."""

    def __init__(self, c: SDTrackConfig) -> None:
        super().__init__()
        self.upper_left, self.lower_right = tower(c, 1), tower(c, 1)

    def parts(self) -> tuple[nn.Module, ...]:
        return self.upper_left, self.lower_right


class SDTrack(SpikingModel):
    """See ``SDTrackConfig``. Of several steps the logits are averaged (readout "mean"), before any sigmoid."""

    config: SDTrackConfig

    def __init__(self, config: SDTrackConfig) -> None:
        c = config
        side = c.search + c.template
        super().__init__(c, c.normalise(), (side, side))
        self.body = Body(c, (c.template, c.search), c.layout, c.pads)
        self.head: Any = CentreHead(c) if c.head == "centre" else CornerHead(c)
        for parameter in self.head.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        if c.classifier:
            self.classifier = Linear(c.widths[-1], 1000)
        if c.mean and c.layout != "siamese":
            self.register_buffer("inside", corners(c.search, c.template), persistent=False)

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        c = self.config
        side = c.search + c.template
        if x.shape[-2:] != (side, side):
            raise ValueError(f"expected a canvas of {side} x {side} pixels, got {list(x.shape)}")
        if c.layout == "siamese":
            x = laid_out([x[..., c.search :, c.search :], x[..., : c.search, : c.search]])
        elif c.mean:  # outside both regions the input is 0, not a normalised 0
            x = x * self.get_buffer("inside").to(x.dtype)
        tokens = self.body(self.in_time(self.body.first(x), T))
        found = taken_apart(tokens, self.body.places())[1]
        return torch.cat([part(found) for part in self.head.parts()], 2)


class SDTrackClassifier(SpikingModel):
    """See ``SDTrackClassifierConfig``."""

    config: SDTrackClassifierConfig

    def __init__(self, config: SDTrackClassifierConfig) -> None:
        c = config
        super().__init__(c, c.normalise(), (c.side, c.side))
        self.body = Body(c, (c.side,), "plain", 0)
        self.fire = c.neuron.build(channels=c.widths[-1])
        self.classifier = Linear(c.widths[-1], c.num_classes)

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        side = self.config.side
        if x.shape[-2:] != (side, side):
            raise ValueError(f"expected images of {side} x {side} pixels, got {list(x.shape)}")
        tokens = self.body(self.in_time(self.body.first(x), T))
        return self.classifier(self.fire(tokens.mean((-2, -1))))


_SOURCE = "Shan et al. (2025), arXiv 2503.08703"
_TINY = SDTrackConfig()
_BASE = replace(_TINY, widths=(128, 256, 512, 768), depths=(1, 1, 2, 9, 3), heads=16, head_width=512)
_SMALL = replace(
    _TINY,
    widths=(16, 32, 48, 64),
    depths=(1, 1, 1, 2, 1),
    heads=4,
    search=96,
    template=48,
    search_factor=3.0,
    layout="siamese",
    pads=0,
    head_width=64,
)


def _register(name: str, config: SDTrackConfig, words: str) -> None:
    side = config.search + config.template
    register(ModelCard(name, f"tracker: {words}", _SOURCE, (config.inputs, side, side), config))


_register("sdtrack_tiny", _TINY, "regions of 256 and 128 pixels on one canvas, 6 + 2 attention blocks")
_register("sdtrack_base", _BASE, "regions of 256 and 128 pixels on one canvas, 9 + 3 attention blocks")
_register("sdtrack_small", _SMALL, "regions of 96 and 48 pixels side by side, 2 + 1 attention blocks (ours)")
_CLASSIFIER = SDTrackClassifierConfig()
for _name, _like in (("tiny", _TINY), ("base", _BASE)):
    _body = {key: getattr(_like, key) for key in ("widths", "depths", "heads")}
    register(
        ModelCard(
            f"sdtrack_{_name}_classifier",
            f"what sdtrack_{_name} starts from, to be trained on images",
            _SOURCE,
            (3, 224, 224),
            replace(_CLASSIFIER, **_body),
        )
    )
