"""MS-ResNet with multiscale attention behind the first convolution of residual branches.

Source: Shan et al. (2025), arXiv 2405.13672; the released script has it in every branch of ResNet-18, with a time reduction of
1.5, with which it does not start (the width of a layer is no whole number); int(6 / 1.5) = 4 is meant. Where it sits in deeper
networks is not public; in every branch of ResNet-104 it would add 370 million parameters. There: the first block of each stage,
depthwise, which is ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from saccade.layers import MembraneBlock
from saccade.layers.sma import SMAS, SMAConfig
from saccade.models.base import preset
from saccade.models.ms_resnet import MsResNet, MsResNetConfig
from saccade.models.registry import ModelCard, register


@dataclass(frozen=True)
class SmaMsResNetConfig(MsResNetConfig):
    """sma_blocks: the numbers, from 1, of the residual blocks with an SMA; empty: all."""

    sma: SMAConfig = preset("sma_relu", SMAS, t_reduction=1.5)
    sma_blocks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong = [block for block in self.sma_blocks if not 1 <= block <= sum(self.blocks)]
        if wrong:
            raise ValueError(f"sma_blocks are 1 to {sum(self.blocks)}, got {wrong[0]}")

    def build(self) -> SmaMsResNet:
        return SmaMsResNet(self)


class SmaMsResNet(MsResNet):
    """See ``SmaMsResNetConfig``."""

    def __init__(self, config: SmaMsResNetConfig) -> None:
        super().__init__(config)
        for number, block in enumerate(self.blocks, 1):
            if not config.sma_blocks or number in config.sma_blocks:
                assert isinstance(block, MembraneBlock)
                assert isinstance(block.residual, nn.Sequential)
                conv = block.residual[1]
                assert isinstance(conv, nn.Conv2d)
                block.residual.insert(2, config.sma.build(conv.out_channels, config.T))


_SOURCE = "Shan et al. (2025), arXiv 2405.13672"
_WORDS = "membrane shortcuts and multiscale attention"
for _depth, _blocks, _deep in ((18, (2, 2, 2, 2), False), (34, (3, 4, 6, 3), False), (104, (3, 8, 32, 8), True)):
    _firsts = tuple(1 + sum(_blocks[:i]) for i in range(len(_blocks)))
    _config = SmaMsResNetConfig(blocks=_blocks, deep=_deep, sma_blocks=() if _depth == 18 else _firsts)
    if _deep:
        _config = replace(_config, T=5, sma=replace(_config.sma, depthwise=True))
    register(ModelCard(f"sma_ms_resnet{_depth}", _WORDS, _SOURCE, (3, 224, 224), _config))
register(
    ModelCard(
        "sma_ms_resnet18_small",
        f"{_WORDS}; widths 16 to 128, cifar stem",
        _SOURCE,
        (3, 32, 32),
        SmaMsResNetConfig(widths=(16, 32, 64, 128), stem="cifar", num_classes=10, T=4),
    )
)
