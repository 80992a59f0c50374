"""Meta-SpikeFormer (Spike-driven Transformer v2), E-SpikeFormer (v3) and QSD-Transformer: pyramids of convolutions, then of
attentions.

Source: Yao et al. (2024), arXiv 2404.03663, and (2025), arXiv 2411.16061, and their released code. v2 has re-parametrised
convolutions (``layers.repconv``) for projections. v3 has integer neurons, four times as many channels of values and a separable
convolution in each of its blocks; it has no time axis, so its T is 1. Its head reads whole levels 0 to 4 where ours reads
levels of [0, 1]: a factor of the head's weights.

Source of ``qsd_...``: Qiu et al. (2025), arXiv 2501.13492, and its released code: v2 with integer neurons of gain D, attention
``qsdsa`` and a factor for each channel of the branches of attention blocks. Its weights of 4 bits are a transform:
``quantize`` with method lsq, steps channel and skip (). The names count parameters without the steps of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn

from saccade.layers import BatchNorm2d, Blocks, Conv2d, Linear, MembraneBlock
from saccade.layers.attention import ATTENTIONS, AttentionConfig, Site, pointwise
from saccade.layers.attention.ssa_qk import QueryFirstSSAConfig
from saccade.layers.layer_scale import LayerScale
from saccade.layers.repconv import RepConv
from saccade.layers.stems import STEMS, StemConfig
from saccade.models.base import SpikingModel, preset
from saccade.models.registry import ModelCard, register
from saccade.models.transformer import TransformerConfig, two_layers
from saccade.neurons import NEURONS, NeuronConfig


@dataclass(frozen=True)
class MetaSpikeformerConfig(TransformerConfig):
    """Five stages: a stem of width c1/2, convolutions of c1/2, c1 and c2, attentions of c3 and c4 (``widths``).

    depths: blocks of each stage. strides: of the convolutions between stages; pictures of 32 pixels, which the published ones
    shrink to 2 x 2 places, want fewer. v3: the blocks of Spike-driven Transformer v3 instead of v2's.
    layer_scale: where the factors of the branches of attention blocks start (see ``LayerScale``); None: there are none.
    projection: of v2, "factored" (three convolutions, see ``RepConv``) or "merged" (the one dense 3x3 that they stand for, with
    4.5 times the weights). Factors that are quantized each for itself do not merge into one quantized convolution, so who
    wants spikes and weights of few bits in every addition trains "merged".
    """

    num_classes: int = 1000
    attention: AttentionConfig = preset("sdsa3", ATTENTIONS)
    stem: StemConfig = preset("conv7", STEMS, pool=False, bias=True)
    widths: tuple[int, ...] = (64, 128, 256, 360)
    depths: tuple[int, ...] = (1, 1, 2, 6, 2)
    heads: int = 8
    strides: tuple[int, ...] = (2, 2, 2, 1)
    v3: bool = False
    layer_scale: float | None = None
    projection: str = "factored"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.widths) != 4 or len(self.depths) != 5 or min(*self.widths, *self.depths, self.heads) < 1:
            raise ValueError(f"widths are four and depths five whole numbers, got {self.widths} and {self.depths}")
        if len(self.strides) != 4 or not all(stride in (1, 2) for stride in self.strides):
            raise ValueError(f"strides are four, each 1 or 2, got {self.strides}")
        if self.widths[0] % 2 or any(width % self.heads for width in self.widths[2:]):
            raise ValueError(f"widths {self.widths} are an even one, and two that divide into {self.heads} heads last")
        if self.projection not in PROJECTIONS:
            raise ValueError(f"projection must be one of {', '.join(PROJECTIONS)}, got {self.projection!r}")

    def build(self) -> MetaSpikeformer:
        return MetaSpikeformer(self)


class MetaSpikeformer(SpikingModel):
    """See ``MetaSpikeformerConfig``."""

    def __init__(self, config: MetaSpikeformerConfig) -> None:
        c = config
        super().__init__(c, c.normalise(), c.example_size())
        c1, c2, c3, c4 = c.widths
        self.stem = c.stem.build(self.in_channels, c1 // 2, c.neuron)
        layers: list[nn.Module] = []
        before = c1 // 2
        self.ends: list[int] = []  # of the five stages in ``blocks``
        for stage, (width, depth) in enumerate(zip((c1 // 2, c1, c2, c3, c4), c.depths, strict=True)):
            if stage:
                layers.append(down(c.neuron, before, width, c.strides[stage - 1]))
            for _ in range(depth):
                layers += attention_blocks(c, width) if stage > 2 else convolution_blocks(c, width)
            before = width
            self.ends.append(len(layers))
        self.blocks = Blocks(*layers)
        self.last = c.neuron.build(channels=c4)
        self.head = Linear(c4, c.num_classes)

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        x = self.stem.rest(self.in_time(self.stem.first(x), T))
        return self.head(self.last(self.blocks(x).mean((-2, -1))))

    def forward_features(self, x: Tensor, stages: tuple[int, ...] = (1, 2, 3, 4)) -> list[Tensor]:
        """The currents behind some of the five stages, maps ``[T, N, C, H, W]``, of what ``model(x)`` takes.

        They are a half, a quarter, an eighth, a sixteenth and a sixteenth of the input's height. The released detector reads
        (1, 2, 3, 4), the released segmenter (0, 1, 2, 4). Raises ValueError for another stage.
        """
        if not set(stages) <= set(range(5)):
            raise ValueError(f"stages are numbers from 0 to 4, got {stages}")
        x, T = (x.unsqueeze(0), self.T) if x.dim() == 4 else (x, len(x))
        found = self.pyramid(self.normalise(x), T)
        return [found[stage] for stage in stages]

    def pyramid(self, x: Tensor, T: int) -> list[Tensor]:
        """The currents behind all stages, of normalised input as ``step_outputs`` takes."""
        x = self.stem.rest(self.in_time(self.stem.first(x), T))
        found = []
        for at, block in enumerate(self.blocks, 1):
            x = block(x)
            found += [x] * (at in self.ends)
        return found


def down(neuron: NeuronConfig, inputs: int, outputs: int, stride: int) -> nn.Module:
    """SN - conv3x3 of that stride - BN: currents to currents."""
    conv = Conv2d(inputs, outputs, 3, stride, 1)
    return nn.Sequential(neuron.build(channels=inputs), conv, BatchNorm2d(outputs))


def separable(neuron: NeuronConfig, width: int, kernel: int, fires_between: bool) -> nn.Module:
    """``x + BN(1x1(depthwise(SN(BN(1x1(SN(x)))))))`` with twice as many channels inside.

    fires_between: BN and SN behind the depthwise convolution (v3); without, the last 1x1 reads real numbers (v2).
    """
    inside = 2 * width
    wide = neuron.build(channels=inside)
    depthwise = Conv2d(inside, inside, kernel, padding=kernel // 2, groups=inside, bias=False)
    between = [BatchNorm2d(inside), neuron.build(channels=inside)] if fires_between else []
    branch = (neuron.build(channels=width), pointwise(width, inside), wide, depthwise, *between)
    return MembraneBlock(nn.Sequential(*branch, pointwise(inside, width)), nn.Identity())


def convolution_blocks(c: MetaSpikeformerConfig, width: int) -> list[nn.Module]:
    """A separable 7x7, then ``x + BN(3x3(SN(BN(3x3(SN(x))))))`` with four times as many channels inside."""
    inside = round(width * c.mlp_ratio)
    branch: list[nn.Module] = []
    for a, b in ((width, inside), (inside, width)):
        branch += [c.neuron.build(channels=a), Conv2d(a, b, 3, padding=1, bias=False), BatchNorm2d(b)]
    return [separable(c.neuron, width, 7, c.v3), MembraneBlock(nn.Sequential(*branch), nn.Identity())]


def re_parametrised(inputs: int, outputs: int) -> nn.Module:
    """The projection of v2: a ``RepConv`` and another norm."""
    return nn.Sequential(RepConv(inputs, outputs), BatchNorm2d(outputs))


def dense(inputs: int, outputs: int) -> nn.Module:
    """What ``re_parametrised`` merges into: a 3x3 convolution and a norm."""
    return nn.Sequential(Conv2d(inputs, outputs, 3, padding=1, bias=False), BatchNorm2d(outputs))


PROJECTIONS = {"factored": re_parametrised, "merged": dense}


def attention_blocks(c: MetaSpikeformerConfig, width: int) -> list[nn.Module]:
    """[a separable 3x3 (v3)], ``x + g * project(A(SN(x)))`` and two layers ``x + g * ...``; g: of ``layer_scale``."""
    project = pointwise if c.v3 else PROJECTIONS[c.projection]
    site = Site(width, c.heads, c.neuron, c.T, projection=project)
    mixer = c.attention.build(site)
    attend = nn.Sequential(c.neuron.build(channels=width), mixer, project(mixer.out_channels, width))
    blocks: list[nn.Module] = [separable(c.neuron, width, 3, True)] if c.v3 else []
    branches = attend, two_layers(c.neuron, width, c.mlp_ratio)
    if c.layer_scale is not None:
        for branch in branches:
            branch.append(LayerScale(width, c.layer_scale))
    return [*blocks, *(MembraneBlock(branch, nn.Identity()) for branch in branches)]


_V2, _V3 = "Yao et al. (2024), arXiv 2404.03663", "Yao et al. (2025), arXiv 2411.16061"
_QSD = "Qiu et al. (2025), arXiv 2501.13492"
_WORDS = {
    _V2: "pyramid of convolutions and spike-driven attention",
    _V3: "pyramid with integer neurons, T = 1",
    _QSD: "pyramid with integer neurons and integer attention, T = 1, to be quantized",
}
_THREE = MetaSpikeformerConfig(
    T=1, v3=True, neuron=NEURONS["i_lif"], attention=QueryFirstSSAConfig(scale=None, value_ratio=4, halve=False)
)
_SMALL = {"widths": (16, 32, 64, 64), "depths": (1, 1, 1, 1, 1), "heads": 4, "input": "cifar", "num_classes": 10}


def _register(name: str, source: str, config: MetaSpikeformerConfig) -> None:
    size = 224 if config.input == "imagenet" else 32
    words = f"{_WORDS[source]}, widths {', '.join(map(str, config.widths))}"
    register(ModelCard(name, words, source, (3, size, size), config))


for _name, _widths in (
    ("15m", (64, 128, 256, 360)),
    ("31m", (96, 192, 384, 480)),
    ("55m", (128, 256, 512, 640)),
    ("124m", (192, 384, 768, 960)),
):
    _register(f"sdt_v2_{_name}", _V2, MetaSpikeformerConfig(widths=_widths))
_register("sdt_v2_small", _V2, replace(MetaSpikeformerConfig(), **_SMALL))  # type: ignore[arg-type]
for _name, _widths in (
    ("t", (24, 48, 96, 128)),
    ("s", (32, 64, 128, 192)),
    ("m", (48, 96, 192, 240)),
    ("l", (64, 128, 256, 360)),
):
    _register(f"sdt_v3_{_name}", _V3, replace(_THREE, widths=_widths))
_register("sdt_v3_small", _V3, replace(_THREE, **_SMALL))  # type: ignore[arg-type]
_FOUR = MetaSpikeformerConfig(T=1, neuron=NEURONS["ie_lif"], attention=ATTENTIONS["qsdsa"], layer_scale=1e-6)
for _name, _widths, _depths in (
    ("8m", (48, 96, 192, 256), (1, 1, 2, 6, 2)),
    ("15m", (64, 128, 256, 360), (1, 1, 2, 6, 2)),
    ("31m", (96, 192, 384, 480), (1, 1, 2, 6, 2)),
    ("55m", (128, 256, 512, 640), (1, 1, 2, 6, 2)),
    ("75m", (128, 256, 512, 640), (1, 1, 2, 9, 3)),
    ("124m", (192, 384, 768, 960), (1, 1, 2, 6, 2)),
):
    _register(f"qsd_{_name}", _QSD, replace(_FOUR, widths=_widths, depths=_depths))
_register("qsd_small", _QSD, replace(_FOUR, layer_scale=1.0, **_SMALL))  # type: ignore[arg-type]
