"""SMA-VGG: five convolutions and three linear layers for events, with multiscale attention behind some of the convolutions.

Source: Shan et al. (2025), arXiv 2405.13672, as released (attention behind the second and third convolution, pooling to 3x3).
The appendix of the paper draws four attentions and a pooling to 1x1: ``sma_blocks=(2, 3, 4, 5), pool=1``, 58.8 million
parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn

from saccade.layers import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Dropout, Linear, MaxPool2d
from saccade.layers.sma import SMAS, SMAConfig
from saccade.models.base import ClassifierConfig, Normalise, SpikingModel, preset
from saccade.models.registry import ModelCard, register
from saccade.neurons import NeuronConfig


@dataclass(frozen=True)
class SmaVggConfig(ClassifierConfig):
    """(conv3x3 [- SMA] - BN - neuron - max pooling) for each of ``channels``, then linear layers of ``hidden`` and the classes.

    sma_blocks: the numbers, from 1, of the convolutions with an SMA behind them. pool: the side that maps are averaged to.
    """

    T: int = 10
    in_channels: int = 2
    channels: tuple[int, ...] = (64, 128, 256, 512, 512)
    hidden: tuple[int, ...] = (2048, 1024)
    pool: int = 3
    dropout: float = 0.5
    sma: SMAConfig = preset("sma", SMAS)
    sma_blocks: tuple[int, ...] = (2, 3)
    neuron: NeuronConfig = preset("lif")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.channels or min(*self.channels, *self.hidden, self.in_channels, self.pool) < 1:
            raise ValueError(f"channels, hidden and pool are whole numbers from 1, got {self.channels}, {self.hidden}")
        wrong = [block for block in self.sma_blocks if not 1 <= block <= len(self.channels)]
        if wrong:
            raise ValueError(f"sma_blocks are 1 to {len(self.channels)}, the convolutions, got {wrong[0]}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")

    def build(self) -> SmaVgg:
        return SmaVgg(self)


class SmaVgg(SpikingModel):
    """See ``SmaVggConfig``."""

    def __init__(self, config: SmaVggConfig) -> None:
        c = config
        side = 4 << len(c.channels)
        super().__init__(c, Normalise(c.in_channels), (side, side))
        layers: list[nn.Module] = []
        before = c.in_channels
        for number, width in enumerate(c.channels, 1):
            layers.append(Conv2d(before, width, 3, padding=1))
            if number in c.sma_blocks:
                layers.append(c.sma.build(width, c.T))
            layers += [BatchNorm2d(width), c.neuron.build(channels=width), MaxPool2d(2)]
            before = width
        self.stem, self.layers = layers[0], nn.Sequential(*layers[1:])
        self.average = AdaptiveAvgPool2d(c.pool)
        head: list[nn.Module] = []
        inputs = before * c.pool**2
        for width in c.hidden:
            head += [Linear(inputs, width), c.neuron.build(channels=width), Dropout(c.dropout)]
            inputs = width
        self.head = nn.Sequential(*head, Linear(inputs, c.num_classes))

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        x = self.layers(self.in_time(self.stem(x), T))
        return self.head(self.average(x).flatten(2))


_SOURCE = "Shan et al. (2025), arXiv 2405.13672"
_VGG = SmaVggConfig()
register(ModelCard("sma_vgg8", "multiscale attention for events", _SOURCE, (2, 128, 128), _VGG))
register(
    ModelCard(
        "sma_vgg8_small",
        "the same, narrow, for events of 34x34 and two cores",
        _SOURCE,
        (2, 34, 34),
        replace(_VGG, T=8, channels=(16, 32, 32), hidden=(64,), pool=2, sma_blocks=(2,)),
    )
)
