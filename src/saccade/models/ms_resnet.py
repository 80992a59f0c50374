"""MS-ResNet: membrane shortcuts, which add currents instead of spikes.

Source: Hu et al. (2021), Advancing Spiking Neural Networks towards Deep Residual Learning, arXiv 2112.08954.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from saccade.layers import AvgPool2d, BatchNorm2d, Blocks, Conv2d, Dropout, Linear, SynA
from saccade.models.base import SpikingModel
from saccade.models.channels import ChannelGroup
from saccade.models.registry import ModelCard, register
from saccade.models.resnet20 import membrane_groups
from saccade.models.sew_resnet import stem_normalise
from saccade.neurons import neuron

V_TH = 0.5


class MsBlock(nn.Module):
    """``F(x) + shortcut(x)`` on currents, F = twice (neuron - conv3x3 - BN [- MA]): no neuron after the sum.

    The last norm of F starts at gamma = 0, so that the block starts as its shortcut. Every convolution of F is fed by
    spikes; the projection of the shortcut is fed by currents.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        stride: int,
        pooled: bool,
        T: int,
        syna: SynA | None,
        first_stage: bool,
        preset: str,
    ) -> None:
        super().__init__()
        projects = stride != 1 or c_in != c_out
        layers: list[nn.Module] = []
        for i in range(2):
            conv = Conv2d(c_in if i == 0 else c_out, c_out, 3, stride if i == 0 else 1, 1, bias=False)
            layers += [neuron(preset), conv, BatchNorm2d(c_out, init_weight=V_TH if i == 0 else 0.0)]
            if syna and syna.on_backbone(i, projects, first_stage):
                layers.append(syna.backbone(c_out, T))
        self.residual = nn.Sequential(*layers)
        shortcut: list[nn.Module] = []
        if projects:
            if pooled and stride != 1:
                shortcut.append(AvgPool2d(stride))
            conv = Conv2d(c_in, c_out, 1, 1 if pooled else stride, bias=False)
            shortcut += [conv, BatchNorm2d(c_out, init_weight=V_TH)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.residual(x) + self.shortcut(x)
        return y


class MsResNet(SpikingModel):
    """stem: "imagenet" (7x7 stride 2 without pooling, or three 3x3 for ``deep``) or "cifar" (3x3). deep: the 104-layer form.

    syna: adds MA to the residual branches, as Att-MS-ResNet does (Yao et al. 2023). IA has no place here: there are no
    shortcut spikes to gate, and a closed gate beside a branch that starts at gamma = 0 would leave a block without output.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        deep: bool = False,
        stem: str = "imagenet",
        T: int = 6,
        num_classes: int = 1000,
        widths: Sequence[int] = (64, 128, 256, 512),
        syna: SynA | None = None,
        preset: str = "ms",
        readout: str = "mean",
    ) -> None:
        super().__init__(T, num_classes, stem_normalise(stem), readout)
        width = widths[0]
        if stem == "cifar":
            convs = [Conv2d(3, width, 3, 1, 1, bias=False)]
        elif deep:
            convs = [Conv2d(3, width, 3, 2, 1), Conv2d(width, width, 3, 1, 1), Conv2d(width, width, 3, 1, 1)]
        else:
            convs = [Conv2d(3, width, 7, 2, 3, bias=False)]
        self.stem = nn.Sequential(*convs, BatchNorm2d(width, init_weight=V_TH))
        layers: list[nn.Module] = []
        c_in = width
        for stage, (c_out, count) in enumerate(zip(widths, blocks, strict=True)):
            for i in range(count):
                stride = 2 if i == 0 and (stage > 0 or stem == "imagenet") else 1
                layers.append(MsBlock(c_in, c_out, stride, deep, T, syna, stage == 0, preset))
                c_in = c_out
        self.blocks = Blocks(*layers)
        self.head_neuron = neuron(preset)
        self.dropout = Dropout(0.2) if deep else nn.Identity()
        self.head = Linear(c_in, num_classes)

    def step_logits(self, x: Tensor) -> Tensor:
        x = self.head_neuron(self.blocks(self.in_time(self.stem(x))))
        return self.head(self.dropout(x.mean((-2, -1))))

    def channel_groups(self) -> dict[str, ChannelGroup]:
        """As ``membrane_groups``; raises ValueError for a network with attention gates."""
        return membrane_groups(self)


def _build(
    stem: str = "imagenet",
    T: int = 6,
    num_classes: int = 1000,
    widths: Sequence[int] = (64, 128, 256, 512),
    ma: str = "",
    position: str = "b",
    preset: str = "ms",
    readout: str = "mean",
    *,
    blocks: Sequence[int],
    deep: bool = False,
) -> SpikingModel:
    syna = SynA(ma=ma, ia="", position=position) if ma else None
    return MsResNet(blocks, deep, stem, T, num_classes, widths, syna, preset, readout)


_SOURCE = "Hu et al. (2021), arXiv 2112.08954"
for _depth, _blocks, _deep in ((18, (2, 2, 2, 2), False), (34, (3, 4, 6, 3), False), (104, (3, 8, 32, 8), True)):
    _make = partial(_build, blocks=_blocks, deep=_deep)
    _what = "membrane-shortcut residuals"
    register(ModelCard(f"ms_resnet{_depth}", _what, _SOURCE, (3, 224, 224), _make))
    _small = partial(_make, widths=(16, 32, 64, 128), stem="cifar", num_classes=10, T=4)
    register(
        ModelCard(f"ms_resnet{_depth}_small", f"{_what}; widths 16 to 128, cifar stem", _SOURCE, (3, 32, 32), _small)
    )
