"""Wide ResNet-20 with parameter-free shortcuts.

Source: Wei et al. (2025), QP-SNN, arXiv 2502.05905, as its sizes fix it.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from saccade.layers import BatchNorm2d, Blocks, Conv2d, Linear, PadShortcut
from saccade.models.base import CIFAR, ClassifierConfig, Normalise, SpikingModel, preset
from saccade.models.registry import ModelCard, register
from saccade.neurons import NeuronConfig

BLOCKS = 3  # of a stage


@dataclass(frozen=True)
class ResNet20Config(ClassifierConfig):
    """Stages of three blocks. stem: channels (None: half the first stage's); middles: of each block (None: its stage's)."""

    T: int = 2
    stem: int | None = None
    widths: tuple[int, ...] = (128, 256, 512)
    middles: tuple[int, ...] | None = None
    neuron: NeuronConfig = preset("qp")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.middles is not None and len(self.middles) != BLOCKS * len(self.widths):
            raise ValueError(f"resnet20 has {BLOCKS * len(self.widths)} blocks, got {len(self.middles)} middle widths")
        if not self.widths or min((*self.widths, *(self.middles or ()))) < 1:
            raise ValueError(f"widths and middles are whole numbers from 1, got {self.widths} and {self.middles}")

    def build(self) -> ResNet20:
        return ResNet20(self)


class WideBlock(nn.Module):
    """conv - BN - neuron - conv - BN, plus the shortcut of the spikes that came in, then the neuron."""

    def __init__(self, neuron: NeuronConfig, c_in: int, middle: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = Conv2d(c_in, middle, 3, stride, 1, bias=False), BatchNorm2d(middle)
        self.neuron1 = neuron.build(channels=middle)
        self.conv2, self.norm2 = Conv2d(middle, c_out, 3, 1, 1, bias=False), BatchNorm2d(c_out)
        self.shortcut = PadShortcut(c_in, c_out, stride)
        self.neuron2 = neuron.build(channels=c_out)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.neuron1(self.norm1(self.conv1(x)))))
        spikes: Tensor = self.neuron2(y + self.shortcut(x))
        return spikes


class ResNet20(SpikingModel):
    """See ``ResNet20Config``."""

    def __init__(self, config: ResNet20Config) -> None:
        c = config
        super().__init__(c, Normalise(3, *CIFAR))
        stem = c.stem or c.widths[0] // 2
        self.stem = nn.Sequential(Conv2d(3, stem, 3, 1, 1, bias=False), BatchNorm2d(stem))
        self.stem_neuron = c.neuron.build(channels=stem)
        blocks: list[nn.Module] = []
        c_in = stem
        for i, middle in enumerate(c.middles or [width for width in c.widths for _ in range(BLOCKS)]):
            c_out = c.widths[i // BLOCKS]
            blocks.append(WideBlock(c.neuron, c_in, middle, c_out, 2 if i % BLOCKS == 0 and i > 0 else 1))
            c_in = c_out
        self.blocks = Blocks(*blocks)
        self.head = Linear(c_in, c.num_classes)

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        x = self.blocks(self.stem_neuron(self.in_time(self.stem(x), T)))
        return self.head(x.mean((-2, -1)))


register(
    ModelCard(
        "resnet20_wide",
        "wide ResNet-20, shortcuts without parameters",
        "Wei et al. (2025), QP-SNN, arXiv 2502.05905",
        (3, 32, 32),
        ResNet20Config(),
    )
)
