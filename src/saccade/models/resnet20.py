"""Wide ResNet-20 with parameter-free shortcuts, and the ResNet-19 of the sub-bit work.

Sources: Wei et al. (2025), QP-SNN, arXiv 2502.05905, and Wei et al. (2025), S2NN, arXiv 2509.24266, as their sizes fix them.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from saccade.layers import BatchNorm2d, Blocks, Conv2d, Linear
from saccade.layers.fold import folded
from saccade.models.base import Normalise, SpikingModel
from saccade.models.registry import ModelCard, register
from saccade.models.syna_resnet import CIFAR_MEAN, CIFAR_STD
from saccade.neurons import neuron

WIDTHS = (128, 256, 512)


class PadShortcut(nn.Module):
    """Every ``stride``-th place, and channels of zeros half before and half after: no parameters."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        if c_out < c_in:
            raise ValueError(f"a shortcut that pads cannot lose channels: {c_in} to {c_out}")
        self.stride, self.before, self.after = stride, (c_out - c_in) // 2, c_out - c_in - (c_out - c_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        def shorten(x: Tensor) -> Tensor:
            return F.pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))

        return folded(shorten, x) if self.stride > 1 or self.before or self.after else x


class WideBlock(nn.Module):
    """conv - BN - neuron - conv - BN, plus the shortcut of the spikes that came in, then the neuron."""

    def __init__(self, c_in: int, middle: int, c_out: int, stride: int, preset: str) -> None:
        super().__init__()
        self.conv1, self.norm1 = Conv2d(c_in, middle, 3, stride, 1, bias=False), BatchNorm2d(middle)
        self.neuron1 = neuron(preset)
        self.conv2, self.norm2 = Conv2d(middle, c_out, 3, 1, 1, bias=False), BatchNorm2d(c_out)
        self.shortcut = PadShortcut(c_in, c_out, stride)
        self.neuron2 = neuron(preset)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.neuron1(self.norm1(self.conv1(x)))))
        spikes: Tensor = self.neuron2(y + self.shortcut(x))
        return spikes


class ResNet20(SpikingModel):
    """Stages of three blocks. stem: channels (half the first stage's); middles: of each block (its stage's)."""

    def __init__(
        self,
        T: int = 2,
        num_classes: int = 10,
        stem: int | None = None,
        widths: Sequence[int] = WIDTHS,
        middles: Sequence[int] | None = None,
        preset: str = "qp",
        readout: str = "mean",
    ) -> None:
        super().__init__(T, num_classes, Normalise(3, CIFAR_MEAN, CIFAR_STD), readout)
        stem = stem or widths[0] // 2
        middles = middles or [width for width in widths for _ in range(3)]
        if len(middles) != 3 * len(widths):
            raise ValueError(f"resnet20 has {3 * len(widths)} blocks, got {len(middles)} middle widths")
        self.stem = nn.Sequential(Conv2d(3, stem, 3, 1, 1, bias=False), BatchNorm2d(stem))
        self.stem_neuron = neuron(preset)
        blocks: list[nn.Module] = []
        c_in = stem
        for i, middle in enumerate(middles):
            c_out = widths[i // 3]
            blocks.append(WideBlock(c_in, middle, c_out, 2 if i % 3 == 0 and i > 0 else 1, preset))
            c_in = c_out
        self.blocks = Blocks(*blocks)
        self.head = Linear(c_in, num_classes)

    def step_logits(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem_neuron(self.in_time(self.stem(x))))
        return self.head(x.mean((-2, -1)))


class MembraneBlock(nn.Module):
    """``F(x) + shortcut(x)`` on currents, F = twice (neuron - conv3x3 - BN); conv1x1 - BN where a stage starts."""

    def __init__(self, c_in: int, c_out: int, stride: int, preset: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, s in ((c_in, stride), (c_out, 1)):
            layers += [neuron(preset), Conv2d(a, c_out, 3, s, 1, bias=False), BatchNorm2d(c_out)]
        self.residual = nn.Sequential(*layers)
        self.shortcut = (
            nn.Sequential(Conv2d(c_in, c_out, 1, stride, bias=False), BatchNorm2d(c_out))
            if c_in != c_out
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.residual(x) + self.shortcut(x)
        return y


class ResNet19(SpikingModel):
    """Stem, then three, three and two membrane-shortcut blocks; a 1x1 shortcut where a stage starts."""

    def __init__(
        self,
        T: int = 6,
        num_classes: int = 10,
        stem: int | None = None,
        widths: Sequence[int] = WIDTHS,
        preset: str = "qp",
        readout: str = "mean",
    ) -> None:
        super().__init__(T, num_classes, Normalise(3, CIFAR_MEAN, CIFAR_STD), readout)
        stem = stem or widths[0] // 2
        self.stem = nn.Sequential(Conv2d(3, stem, 3, 1, 1, bias=False), BatchNorm2d(stem))
        blocks: list[nn.Module] = []
        c_in = stem
        for stage, (width, count) in enumerate(zip(widths, (3, 3, 2), strict=False)):
            for i in range(count):
                blocks.append(MembraneBlock(c_in, width, 2 if stage and i == 0 else 1, preset))
                c_in = width
        self.blocks = Blocks(*blocks)
        self.head_neuron = neuron(preset)
        self.head = Linear(c_in, num_classes)

    def step_logits(self, x: Tensor) -> Tensor:
        x = self.head_neuron(self.blocks(self.in_time(self.stem(x))))
        return self.head(x.mean((-2, -1)))


register(
    ModelCard(
        "resnet20_wide",
        "wide ResNet-20, shortcuts without parameters",
        "Wei et al. (2025), QP-SNN, arXiv 2502.05905",
        (3, 32, 32),
        ResNet20,
    )
)
register(
    ModelCard(
        "resnet19",
        "ResNet-19 with membrane shortcuts",
        "Wei et al. (2025), S2NN, arXiv 2509.24266",
        (3, 32, 32),
        ResNet19,
    )
)
