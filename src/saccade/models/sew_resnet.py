"""SEW-ResNet: spike-element-wise residuals with a spiking neuron in every shortcut projection.

Source: Fang et al. (2021), Deep Residual Learning in Spiking Neural Networks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn

from saccade.layers import (
    CONNECTIONS,
    BatchNorm2d,
    Blocks,
    Conv2d,
    Linear,
    MaxPool2d,
    ResidualBlock,
    SpikingShortcut,
)
from saccade.models.base import CIFAR, IMAGENET, ClassifierConfig, Normalise, SpikingModel, preset
from saccade.models.registry import ModelCard, register
from saccade.neurons import NeuronConfig

STEMS = {"imagenet": (IMAGENET, 64), "cifar": (CIFAR, 32)}  # pixel statistics, height = width of an example


@dataclass(frozen=True)
class SewResNetConfig(ClassifierConfig):
    """stem: "imagenet" (7x7 stride 2, max-pool) or "cifar" (3x3). blocks: of each stage, basic or ``bottleneck``.

    connection: "add" (published default), "and", "iand", "or". With "add" the values grow by one a block; with the others they
    stay in {0, 1}.
    """

    num_classes: int = 1000
    stem: str = "imagenet"
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    bottleneck: bool = False
    widths: tuple[int, ...] = (64, 128, 256, 512)
    connection: str = "add"
    neuron: NeuronConfig = preset("if")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_stages(self.stem, STEMS, self.widths, self.blocks)
        CONNECTIONS[self.connection]

    def build(self) -> SewResNet:
        return SewResNet(self)


def check_stages(stem: str, stems: object, widths: tuple[int, ...], blocks: tuple[int, ...]) -> None:
    """Raises ValueError for an unknown stem, or widths and blocks that are not as many numbers from 1."""
    if stem not in stems:  # type: ignore[operator]
        raise ValueError(f"unknown stem {stem!r}; known: {', '.join(stems)}")  # type: ignore[arg-type]
    if len(widths) != len(blocks):
        raise ValueError(f"{len(widths)} widths but {len(blocks)} block counts")
    if min((*widths, *blocks), default=0) < 1:
        raise ValueError(f"widths and blocks are whole numbers from 1, got {widths} and {blocks}")


def sew_block(config: SewResNetConfig, c_in: int, width: int, stride: int) -> ResidualBlock:
    """``connect(backbone(x), shortcut(x))`` on spikes; basic (3x3, 3x3) or bottleneck (1x1, 3x3, 1x1 times 4)."""
    c_out = width * (4 if config.bottleneck else 1)
    if config.bottleneck:
        units = [(c_in, width, 1, 1), (width, width, 3, stride), (width, c_out, 1, 1)]
    else:
        units = [(c_in, width, 3, stride), (width, width, 3, 1)]
    layers: list[nn.Module] = []
    for a, b, kernel, step in units:
        conv = Conv2d(a, b, kernel, step, kernel // 2, bias=False)
        layers += [conv, BatchNorm2d(b), config.neuron.build(channels=b)]
    shortcut: nn.Module = nn.Identity()
    if stride != 1 or c_in != c_out:
        neuron = config.neuron.build(channels=c_out, role="shortcut")
        shortcut = SpikingShortcut(c_in, c_out, stride, nn.Identity(), neuron)
    return ResidualBlock(nn.Sequential(*layers), shortcut, CONNECTIONS[config.connection])


class SewResNet(SpikingModel):
    """See ``SewResNetConfig``."""

    def __init__(self, config: SewResNetConfig) -> None:
        c = config
        statistics, size = STEMS[c.stem]
        super().__init__(c, Normalise(3, *statistics), (size, size))
        kernel, stride = (7, 2) if c.stem == "imagenet" else (3, 1)
        conv = Conv2d(3, c.widths[0], kernel, stride, kernel // 2, bias=False)
        self.stem = nn.Sequential(conv, BatchNorm2d(c.widths[0]))
        self.stem_neuron = c.neuron.build(channels=c.widths[0])
        self.pool = MaxPool2d(3, 2, 1) if c.stem == "imagenet" else nn.Identity()
        layers: list[nn.Module] = []
        c_in = c.widths[0]
        for stage, (width, count) in enumerate(zip(c.widths, c.blocks, strict=True)):
            for i in range(count):
                layers.append(sew_block(c, c_in, width, 2 if stage > 0 and i == 0 else 1))
                c_in = width * (4 if c.bottleneck else 1)
        self.blocks = Blocks(*layers)
        self.head = Linear(c_in, c.num_classes)
        for module in self.modules():
            if isinstance(module, Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        x = self.stem_neuron(self.in_time(self.stem(x), T))
        x = self.blocks(self.pool(x))
        return self.head(x.mean((-2, -1)))


_SOURCE = "Fang et al. (2021), arXiv 2102.04159"
_WORDS = "spike-element-wise residuals (ADD by default), IF neurons"
for _depth, _blocks, _bottleneck in ((18, (2, 2, 2, 2), False), (34, (3, 4, 6, 3), False), (50, (3, 4, 6, 3), True)):
    _config = SewResNetConfig(blocks=_blocks, bottleneck=_bottleneck)
    register(ModelCard(f"sew_resnet{_depth}", _WORDS, _SOURCE, (3, 224, 224), _config))
    _small = replace(_config, widths=(16, 32, 64, 128), stem="cifar", num_classes=10)
    register(
        ModelCard(f"sew_resnet{_depth}_small", f"{_WORDS}; widths 16 to 128, cifar stem", _SOURCE, (3, 32, 32), _small)
    )
