"""SEW-ResNet: spike-element-wise residuals with a spiking neuron in every shortcut projection.

Source: Fang et al. (2021), Deep Residual Learning in Spiking Neural Networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from saccade.layers import BatchNorm2d, Blocks, Conv2d, Linear, MaxPool2d, SpikingShortcut, connect
from saccade.models.base import Normalise, SpikingModel
from saccade.models.registry import ModelCard, register
from saccade.models.syna_resnet import CIFAR_MEAN, CIFAR_STD
from saccade.neurons import neuron

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _unit(c_in: int, c_out: int, kernel: int, stride: int, preset: str) -> list[nn.Module]:
    conv = Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
    return [conv, BatchNorm2d(c_out), neuron(preset)]


class SewBlock(nn.Module):
    """``connect(backbone(x), shortcut(x))`` on spikes; basic (3x3, 3x3) or bottleneck (1x1, 3x3, 1x1 times 4)."""

    def __init__(self, c_in: int, width: int, stride: int, bottleneck: bool, connection: str, preset: str) -> None:
        super().__init__()
        c_out = width * (4 if bottleneck else 1)
        self.connection = connection
        if bottleneck:
            units = [(c_in, width, 1, 1), (width, width, 3, stride), (width, c_out, 1, 1)]
        else:
            units = [(c_in, width, 3, stride), (width, width, 3, 1)]
        self.backbone = nn.Sequential(*(layer for unit in units for layer in _unit(*unit, preset)))
        self.shortcut: nn.Module | None = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = SpikingShortcut(c_in, c_out, stride, nn.Identity(), neuron(preset, role="shortcut"))

    def forward(self, x: Tensor) -> Tensor:
        a = self.backbone(x)
        return a if self.shortcut is None else connect(a, self.shortcut(x), self.connection)


class SewResNet(SpikingModel):
    """stem: "imagenet" (7x7 stride 2, max-pool) or "cifar" (3x3). connection: "add" (published default), "and", "iand", "or".

    With "add" the values grow by one a block; with the others they stay in {0, 1}.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        bottleneck: bool,
        stem: str = "imagenet",
        T: int = 4,
        num_classes: int = 1000,
        widths: Sequence[int] = (64, 128, 256, 512),
        connection: str = "add",
        preset: str = "if",
        readout: str = "mean",
    ) -> None:
        super().__init__(T, num_classes, stem_normalise(stem), readout)
        kernel, stride = (7, 2) if stem == "imagenet" else (3, 1)
        self.stem = nn.Sequential(Conv2d(3, widths[0], kernel, stride, kernel // 2, bias=False), BatchNorm2d(widths[0]))
        self.stem_neuron = neuron(preset)
        self.pool = MaxPool2d(3, 2, 1) if stem == "imagenet" else nn.Identity()
        layers: list[nn.Module] = []
        c_in = widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                layers.append(SewBlock(c_in, width, stride, bottleneck, connection, preset))
                c_in = width * (4 if bottleneck else 1)
        self.blocks = Blocks(*layers)
        self.head = Linear(c_in, num_classes)
        for module in self.modules():
            if isinstance(module, Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def step_logits(self, x: Tensor) -> Tensor:
        x = self.stem_neuron(self.in_time(self.stem(x)))
        x = self.blocks(self.pool(x))
        return self.head(x.mean((-2, -1)))


def stem_normalise(stem: str) -> Normalise:
    """Pixel statistics for the "imagenet" and "cifar" stems. Raises ValueError for another."""
    if stem == "imagenet":
        return Normalise(3, IMAGENET_MEAN, IMAGENET_STD)
    if stem == "cifar":
        return Normalise(3, CIFAR_MEAN, CIFAR_STD)
    raise ValueError(f"unknown stem {stem!r}; known: imagenet, cifar")


def _build(
    stem: str = "imagenet",
    T: int = 4,
    num_classes: int = 1000,
    widths: Sequence[int] = (64, 128, 256, 512),
    connection: str = "add",
    preset: str = "if",
    readout: str = "mean",
    *,
    blocks: Sequence[int],
    bottleneck: bool,
) -> SpikingModel:
    return SewResNet(blocks, bottleneck, stem, T, num_classes, widths, connection, preset, readout)


_SOURCE = "Fang et al. (2021), arXiv 2102.04159"
for _depth, _blocks, _bottleneck in ((18, (2, 2, 2, 2), False), (34, (3, 4, 6, 3), False), (50, (3, 4, 6, 3), True)):
    _make = partial(_build, blocks=_blocks, bottleneck=_bottleneck)
    _what = "spike-element-wise residuals (ADD by default), IF neurons"
    register(ModelCard(f"sew_resnet{_depth}", _what, _SOURCE, (3, 224, 224), _make))
    _small = partial(_make, widths=(16, 32, 64, 128), stem="cifar", num_classes=10)
    register(
        ModelCard(f"sew_resnet{_depth}_small", f"{_what}; widths 16 to 128, cifar stem", _SOURCE, (3, 32, 32), _small)
    )
