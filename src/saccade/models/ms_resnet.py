"""MS-ResNet: membrane shortcuts, which add currents instead of spikes.

Source: Hu et al. (2021), Advancing Spiking Neural Networks towards Deep Residual Learning, arXiv 2112.08954.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn

from saccade.layers import AvgPool2d, BatchNorm2d, Blocks, Conv2d, Dropout, Linear, MembraneBlock, SynA
from saccade.models.base import ClassifierConfig, Normalise, SpikingModel, preset
from saccade.models.registry import ModelCard, register
from saccade.models.sew_resnet import STEMS, check_stages
from saccade.neurons import NeuronConfig

V_TH = 0.5


@dataclass(frozen=True)
class MsResNetConfig(ClassifierConfig):
    """stem: "imagenet" (7x7 stride 2 without pooling, or three 3x3 for ``deep``) or "cifar" (3x3). deep: the 104-layer form.

    ma, position: adds MA to the residual branches, as Att-MS-ResNet does (Yao et al. 2023). IA has no place here: there are no
    shortcut spikes to gate, and a closed gate beside a branch that starts at gamma = 0 would leave a block without output.
    """

    T: int = 6
    num_classes: int = 1000
    stem: str = "imagenet"
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    deep: bool = False
    widths: tuple[int, ...] = (64, 128, 256, 512)
    ma: str = ""
    position: str = "b"
    neuron: NeuronConfig = preset("ms")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_stages(self.stem, STEMS, self.widths, self.blocks)
        self.attention()

    def attention(self) -> SynA | None:
        """The gates, or None without any."""
        syna = SynA(ma=self.ma, ia="", position=self.position)
        return syna if self.ma else None

    def build(self) -> MsResNet:
        return MsResNet(self)


def ms_block(config: MsResNetConfig, c_in: int, c_out: int, stride: int, first_stage: bool) -> MembraneBlock:
    """``F(x) + shortcut(x)`` on currents, F = twice (neuron - conv3x3 - BN [- MA]).

    The last norm of F starts at gamma = 0, so that the block starts as its shortcut. Every convolution of F is fed by
    spikes; the projection of the shortcut is fed by currents.
    """
    syna = config.attention()
    projects = stride != 1 or c_in != c_out
    layers: list[nn.Module] = []
    for i in range(2):
        channels = c_in if i == 0 else c_out
        conv = Conv2d(channels, c_out, 3, stride if i == 0 else 1, 1, bias=False)
        norm = BatchNorm2d(c_out, init_weight=V_TH if i == 0 else 0.0)
        layers += [config.neuron.build(channels=channels), conv, norm]
        if syna and syna.on_backbone(i, projects, first_stage):
            layers.append(syna.backbone(c_out, config.T))
    shortcut: list[nn.Module] = []
    if projects:
        if config.deep and stride != 1:
            shortcut.append(AvgPool2d(stride))
        conv = Conv2d(c_in, c_out, 1, 1 if config.deep else stride, bias=False)
        shortcut += [conv, BatchNorm2d(c_out, init_weight=V_TH)]
    return MembraneBlock(nn.Sequential(*layers), nn.Sequential(*shortcut))


class MsResNet(SpikingModel):
    """See ``MsResNetConfig``."""

    def __init__(self, config: MsResNetConfig) -> None:
        c = config
        statistics, size = STEMS[c.stem]
        super().__init__(c, Normalise(3, *statistics), (size, size))
        width = c.widths[0]
        if c.stem == "cifar":
            convs = [Conv2d(3, width, 3, 1, 1, bias=False)]
        elif c.deep:
            convs = [Conv2d(3, width, 3, 2, 1), Conv2d(width, width, 3, 1, 1), Conv2d(width, width, 3, 1, 1)]
        else:
            convs = [Conv2d(3, width, 7, 2, 3, bias=False)]
        self.stem = nn.Sequential(*convs, BatchNorm2d(width, init_weight=V_TH))
        layers: list[nn.Module] = []
        c_in = width
        for stage, (c_out, count) in enumerate(zip(c.widths, c.blocks, strict=True)):
            for i in range(count):
                stride = 2 if i == 0 and (stage > 0 or c.stem == "imagenet") else 1
                layers.append(ms_block(c, c_in, c_out, stride, stage == 0))
                c_in = c_out
        self.blocks = Blocks(*layers)
        self.head_neuron = c.neuron.build(channels=c_in)
        self.dropout = Dropout(0.2) if c.deep else nn.Identity()
        self.head = Linear(c_in, c.num_classes)

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        x = self.head_neuron(self.blocks(self.in_time(self.stem(x), T)))
        return self.head(self.dropout(x.mean((-2, -1))))


_SOURCE = "Hu et al. (2021), arXiv 2112.08954"
_WORDS = "membrane-shortcut residuals"
for _depth, _blocks, _deep in ((18, (2, 2, 2, 2), False), (34, (3, 4, 6, 3), False), (104, (3, 8, 32, 8), True)):
    _config = MsResNetConfig(blocks=_blocks, deep=_deep)
    register(ModelCard(f"ms_resnet{_depth}", _WORDS, _SOURCE, (3, 224, 224), _config))
    _small = replace(_config, widths=(16, 32, 64, 128), stem="cifar", num_classes=10, T=4)
    register(
        ModelCard(f"ms_resnet{_depth}_small", f"{_WORDS}; widths 16 to 128, cifar stem", _SOURCE, (3, 32, 32), _small)
    )
