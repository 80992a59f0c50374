"""QKFormer: a pyramid whose first stages pass tokens by a mask, and whose last one is self-attention of spikes.

Source: Zhou et al. (2024), arXiv 2403.16552, and its released code, but for one defect: there the neuron behind each
self-attention runs over an axis into which steps and samples are folded, so that a sample sees its neighbours in the batch
(and an ImageNet score depends on the order of the validation set). Here, as the paper has it, neurons run over time alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn

from saccade.layers import Blocks, Linear
from saccade.layers.attention import ATTENTIONS, AttentionConfig, Site
from saccade.layers.stems import STEMS, StemConfig
from saccade.layers.stems.speds import SPEDSConfig, embedding
from saccade.models.base import SpikingModel, preset
from saccade.models.registry import ModelCard, register
from saccade.models.transformer import TransformerConfig, spike_blocks


@dataclass(frozen=True)
class QKFormerConfig(TransformerConfig):
    """Stages of widths that double up to ``width``, ``depths`` pairs of blocks each; maps halve between them.

    early: the attention of all stages but the last. heads: of every stage.
    """

    num_classes: int = 1000
    early: AttentionConfig = preset("qkta", ATTENTIONS)
    stem: StemConfig = preset("speds", STEMS)
    width: int = 384
    depths: tuple[int, ...] = (1, 2, 7)
    heads: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.depths or min(*self.depths, self.heads) < 1:
            raise ValueError(f"depths are whole numbers from 1, heads one too, got {self.depths} and {self.heads}")
        first = self.width / 2 ** (len(self.depths) - 1)
        if first != int(first) or first % self.heads:
            raise ValueError(
                f"the first of {len(self.depths)} stages is {first:g} wide, no multiple of {self.heads} heads"
            )

    def build(self) -> QKFormer:
        return QKFormer(self)


class QKFormer(SpikingModel):
    """See ``QKFormerConfig``."""

    def __init__(self, config: QKFormerConfig) -> None:
        c = config
        super().__init__(c, c.normalise(), c.example_size())
        stages = len(c.depths)
        width = c.width >> (stages - 1)
        self.stem = c.stem.build(self.in_channels, width, c.neuron)
        layers: list[nn.Module] = []
        for stage, depth in enumerate(c.depths):
            if stage:
                layers.append(embedding((width, 2 * width, 2 * width), (False, True), c.neuron))
                width *= 2
            site = Site(width, c.heads, c.neuron, c.T)
            attention = c.attention if stage == stages - 1 else c.early
            layers += [block for _ in range(depth) for block in spike_blocks(attention, site, c.mlp_ratio)]
        self.blocks = Blocks(*layers)
        self.head = Linear(width, c.num_classes)

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        x = self.stem.rest(self.in_time(self.stem.first(x), T))
        return self.head(self.blocks(x).mean((-2, -1)))


_SOURCE = "Zhou et al. (2024), arXiv 2403.16552"
_IMAGENET = QKFormerConfig()
_CIFAR = QKFormerConfig(
    input="cifar", num_classes=10, stem=SPEDSConfig(shares=(0.5, 1.0), pools="00"), depths=(1, 1, 2), heads=8
)
_EVENTS = QKFormerConfig(
    input="events",
    T=16,
    stem=SPEDSConfig(shares=(0.25, 0.5, 1.0), pools="111", before=2),
    width=256,
    depths=(1, 1),
    heads=16,
)


def _register(name: str, size: int, config: QKFormerConfig) -> None:
    channels = 2 if config.input == "events" else 3
    words = f"token masks, then self-attention of spikes, up to width {config.width}"
    register(ModelCard(f"qkformer_{name}", words, _SOURCE, (channels, size, size), config))


for _width, _heads in ((384, 6), (512, 8), (768, 12)):
    _register(f"10_{_width}", 224, replace(_IMAGENET, width=_width, heads=_heads))
_register("4_384_cifar", 32, _CIFAR)
_register("gesture", 128, replace(_EVENTS, num_classes=11))
_register("cifar10dvs", 128, replace(_EVENTS, num_classes=10, mlp_ratio=1.0))
# half the resolution of the published CIFAR model, which spends nearly all of its time on its first stage
_SMALL_STEM = SPEDSConfig(shares=(0.5, 1.0), pools="01")
_register("small", 32, replace(_CIFAR, stem=_SMALL_STEM, width=64, depths=(1, 1, 1), heads=4))
