"""SNN-ViT: saccadic attention behind a stem that sees near and far; currents in the shortcuts, as in Spike-driven Transformer.

Source: SNN-ViT (2025), arXiv 2502.12677; no code was published. What is known is its attention (``layers.attention.sssa_v2``)
and that the convolutions of its stem have dilated ones beside them (``layers.stems.glsps``). The widths of stem and blocks are
not: three sizes of 13.7, 30.4 and 53.7 million parameters grow by about 203 numbers a squared width between the last two, where
blocks of this kind have 112. So the sizes here are our own, under names that are not the paper's, and none claims its counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from saccade.layers.attention import ATTENTIONS, AttentionConfig
from saccade.layers.stems import STEMS, StemConfig
from saccade.models.base import preset
from saccade.models.registry import ModelCard, register
from saccade.models.spike_driven_v1 import SpikeDrivenV1, SpikeDrivenV1Config


@dataclass(frozen=True)
class SNNViTConfig(SpikeDrivenV1Config):
    """``x + BN(W SSSA(SN(x)))`` and ``x + BN(W2 SN(BN(W1 SN(x))))``, ``depth`` times. Built for sequences of T steps only."""

    attention: AttentionConfig = preset("sssa_v2", ATTENTIONS)
    stem: StemConfig = preset("glsps", STEMS, pools="1111", membrane=True)
    width: int = 384

    def build(self) -> SNNViT:
        return SNNViT(self)


class SNNViT(SpikeDrivenV1):
    """See ``SNNViTConfig``."""


_IMAGENET = SNNViTConfig()
_CIFAR = replace(_IMAGENET, input="cifar", num_classes=10, stem=STEMS["glsps"].changed("glsps", {"membrane": True}))


def _register(name: str, size: int, config: SNNViTConfig) -> None:
    words = f"saccadic attention, {config.depth} pairs of blocks of width {config.width}"
    channels = 2 if config.input == "events" else 3
    register(ModelCard(f"snn_vit_{name}", words, "SNN-ViT (2025), arXiv 2502.12677", (channels, size, size), config))


for _name, _width in (("s", 256), ("m", 384), ("l", 512)):
    _register(_name, 224, replace(_IMAGENET, width=_width))
_register("cifar", 32, replace(_CIFAR, width=256, depth=4))
_register("events", 128, replace(_IMAGENET, input="events", num_classes=10, T=16, width=128, depth=4))
_register("small", 32, replace(_CIFAR, width=64, depth=2, heads=4))
