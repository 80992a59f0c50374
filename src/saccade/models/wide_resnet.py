"""Wide ResNet with 16 layers, four times as wide, before whose convolutions neurons stand.

Source: Ding et al. (2022), SNN-RAT, as released; later papers on robust spiking networks use the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn

from saccade.layers import BatchNorm2d, Blocks, Conv2d, Linear
from saccade.layers.convex_sum import ConvexSum
from saccade.models.base import CIFAR, ClassifierConfig, Normalise, SpikingModel, preset
from saccade.models.registry import ModelCard, register
from saccade.neurons import NeuronConfig


@dataclass(frozen=True)
class WideResNetConfig(ClassifierConfig):
    """stem: channels of the first convolution. widths: of each stage, all but the first of which halve the map. blocks: of a
    stage."""

    T: int = 8
    stem: int = 16
    widths: tuple[int, ...] = (64, 128, 256)
    blocks: int = 2
    neuron: NeuronConfig = preset("rat")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths or min(*self.widths, self.stem, self.blocks) < 1:
            raise ValueError(f"stem, widths and blocks are whole numbers from 1, got {self.widths}")

    def build(self) -> WideResNet:
        return WideResNet(self)


class PreActivationBlock(nn.Module):
    """``a shortcut + b F(s)`` on currents, where s are the spikes of BN - neuron and F is conv - BN - neuron - conv.

    shortcut: what came in where the shape stays, else a 1x1 convolution of s. The sum is a learnt one, ``ConvexSum``.
    """

    def __init__(self, neuron: NeuronConfig, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.neuron1 = BatchNorm2d(c_in), neuron.build(channels=c_in)
        self.conv1 = _conv(c_in, c_out, 3, stride)
        self.norm2, self.neuron2 = BatchNorm2d(c_out), neuron.build(channels=c_out)
        self.conv2 = _conv(c_out, c_out, 3, 1)
        self.projection = _conv(c_in, c_out, 1, stride) if stride != 1 or c_in != c_out else None
        self.sum = ConvexSum()

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.neuron1(self.norm1(x))
        branch = self.conv2(self.neuron2(self.norm2(self.conv1(spikes))))
        total: Tensor = self.sum(x if self.projection is None else self.projection(spikes), branch)
        return total


class WideResNet(SpikingModel):
    """See ``WideResNetConfig``. The sums between blocks are currents, not spikes; all convolutions but the stem are fed by
    spikes."""

    def __init__(self, config: WideResNetConfig) -> None:
        c = config
        super().__init__(c, Normalise(3, *CIFAR))
        self.stem = _conv(3, c.stem, 3, 1)
        blocks: list[nn.Module] = []
        c_in = c.stem
        for stage, c_out in enumerate(c.widths):
            for i in range(c.blocks):
                blocks.append(PreActivationBlock(c.neuron, c_in, c_out, 2 if stage and i == 0 else 1))
                c_in = c_out
        self.blocks = Blocks(*blocks)
        self.norm, self.neuron = BatchNorm2d(c_in), c.neuron.build(channels=c_in)
        self.head = Linear(c_in, c.num_classes)
        nn.init.zeros_(self.head.bias)

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        x = self.blocks(self.in_time(self.stem(x), T))
        return self.head(self.neuron(self.norm(x)).mean((-2, -1)))


def _conv(c_in: int, c_out: int, kernel: int, stride: int) -> Conv2d:
    conv = Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


_SOURCE = "Ding et al. (2022), SNN-RAT; the networks of Wang et al. (2026), arXiv 2602.20548"
_WIDE = WideResNetConfig()
register(ModelCard("wrn16_4", "wide ResNet with learnt sums, of papers on attacks", _SOURCE, (3, 32, 32), _WIDE))
_SMALL = replace(_WIDE, T=4, stem=8, widths=(16, 32, 64))
register(ModelCard("wrn16_4_small", "the same, narrow, for two cores", _SOURCE, (3, 32, 32), _SMALL))
