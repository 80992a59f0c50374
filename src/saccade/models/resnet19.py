"""The ResNet-19 of the sub-bit work.

Source: Wei et al. (2025), S2NN, arXiv 2509.24266, as its sizes fix it.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from saccade.layers import BatchNorm2d, Blocks, Conv2d, Linear, MembraneBlock
from saccade.models.base import CIFAR, ClassifierConfig, Normalise, SpikingModel, preset
from saccade.models.registry import ModelCard, register
from saccade.neurons import NeuronConfig

BLOCKS = (3, 3, 2)


@dataclass(frozen=True)
class ResNet19Config(ClassifierConfig):
    """Stem, then three, three and two membrane-shortcut blocks; a 1x1 shortcut where a stage starts.

    stem: channels (None: half the first stage's).
    """

    T: int = 6
    stem: int | None = None
    widths: tuple[int, ...] = (128, 256, 512)
    neuron: NeuronConfig = preset("qp")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths or min(self.widths) < 1 or len(self.widths) > len(BLOCKS):
            raise ValueError(f"widths are one to {len(BLOCKS)} whole numbers from 1, got {self.widths}")

    def build(self) -> ResNet19:
        return ResNet19(self)


def membrane_block(config: ResNet19Config, c_in: int, c_out: int, stride: int) -> MembraneBlock:
    """``F(x) + shortcut(x)`` on currents, F = twice (neuron - conv3x3 - BN); conv1x1 - BN where a stage starts."""
    layers: list[nn.Module] = []
    for channels, step in ((c_in, stride), (c_out, 1)):
        conv = Conv2d(channels, c_out, 3, step, 1, bias=False)
        layers += [config.neuron.build(channels=channels), conv, BatchNorm2d(c_out)]
    residual = nn.Sequential(*layers)
    if c_in == c_out and stride == 1:
        return MembraneBlock(residual, nn.Identity())
    return MembraneBlock(residual, nn.Sequential(Conv2d(c_in, c_out, 1, stride, bias=False), BatchNorm2d(c_out)))


class ResNet19(SpikingModel):
    """See ``ResNet19Config``."""

    def __init__(self, config: ResNet19Config) -> None:
        c = config
        super().__init__(c, Normalise(3, *CIFAR))
        stem = c.stem or c.widths[0] // 2
        self.stem = nn.Sequential(Conv2d(3, stem, 3, 1, 1, bias=False), BatchNorm2d(stem))
        blocks: list[nn.Module] = []
        c_in = stem
        for stage, (width, count) in enumerate(zip(c.widths, BLOCKS, strict=False)):
            for i in range(count):
                blocks.append(membrane_block(c, c_in, width, 2 if stage and i == 0 else 1))
                c_in = width
        self.blocks = Blocks(*blocks)
        self.head_neuron = c.neuron.build(channels=c_in)
        self.head = Linear(c_in, c.num_classes)

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        x = self.head_neuron(self.blocks(self.in_time(self.stem(x), T)))
        return self.head(x.mean((-2, -1)))


register(
    ModelCard(
        "resnet19",
        "ResNet-19 with membrane shortcuts",
        "Wei et al. (2025), S2NN, arXiv 2509.24266",
        (3, 32, 32),
        ResNet19Config(),
    )
)
