"""SynA-ResNet: spike-driven residual networks joined by OR, and its twins.

Source: Shan et al. (2023), arXiv 2311.06570, as its released files build it. Only the projections between stages are
shortcuts: the first stage and the second pair of each stage have none (``identity_shortcuts=True`` adds them).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn

from saccade.layers import (
    CONNECTIONS,
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Blocks,
    Conv2d,
    Linear,
    MaxPool2d,
    ResidualBlock,
    SpikingShortcut,
    SynA,
)
from saccade.models.base import CIFAR, ClassifierConfig, Normalise, SpikingModel, preset
from saccade.models.registry import ModelCard, register
from saccade.neurons import NeuronConfig

PLAIN = "plain"  # no shortcut at all
STEMS = {"dvs48": (2, 128), "dvs": (2, 128), "cifar": (3, 32), "mnist": (1, 28)}  # channels, height = width


@dataclass(frozen=True)
class SynaResNetConfig(ClassifierConfig):
    """Residual network of pairs of convolutions whose stages are joined by spiking shortcuts.

    stem: "cifar" (3x3) and "mnist" (3x3, one channel) keep the resolution; "dvs48" (mean to 48x48, 3x3 stride 2, max-pool)
    and "dvs" (7x7 stride 2, max-pool) are for 128x128 events. widths, pairs: channels and pairs of each stage.
    connection: a name of ``saccade.layers.CONNECTIONS``, or "plain" for no shortcut at all. in_channels: other than the stem's.
    ma, ia, position, trailing_relu, open_bias, reduction_t: attention, see ``saccade.layers.SynA``; position None is the
    stem's as published, and with it the stem "mnist" has no gates (the released file has every one commented out).
    neuron: of backbone and shortcuts; gate_neuron: of spiking gates.
    """

    T: int = 16
    stem: str = "cifar"
    widths: tuple[int, ...] = (64, 128, 256, 512)
    pairs: tuple[int, ...] = (2, 2, 2, 2)
    connection: str = "or"
    identity_shortcuts: bool = False
    in_channels: int | None = None
    ma: str = ""
    ia: str = ""
    position: str | None = None
    trailing_relu: bool = True
    open_bias: float = 0.0
    reduction_t: int = 4
    neuron: NeuronConfig = preset("lif")
    gate_neuron: NeuronConfig = preset("lif")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stem not in STEMS:
            raise ValueError(f"unknown stem {self.stem!r}; known: {', '.join(STEMS)}")
        if len(self.widths) != len(self.pairs):
            raise ValueError(f"{len(self.widths)} widths but {len(self.pairs)} pair counts")
        if min((*self.widths, *self.pairs), default=0) < 1:
            raise ValueError(f"widths and pairs are whole numbers from 1, got {self.widths} and {self.pairs}")
        if self.connection != PLAIN:
            CONNECTIONS[self.connection]
        self.attention()

    def attention(self) -> SynA | None:
        """The gates, or None without any."""
        gates = (self.ma, self.ia)
        if self.stem == "mnist" and self.position is None:
            gates = ("", "")
        position = self.position or {"dvs48": "a", "dvs": "d"}.get(self.stem, "b")
        syna = SynA(
            ma=gates[0],
            ia=gates[1],
            position=position,
            trailing_relu=self.trailing_relu,
            open_bias=self.open_bias,
            reduction_t=self.reduction_t,
            neuron=self.gate_neuron,
        )
        return syna if any(gates) else None

    def build(self) -> SynaResNet:
        return SynaResNet(self)


def pair(
    config: SynaResNetConfig, c_in: int, c_out: int, stride: int, shortcut: nn.Module | None, first_stage: bool
) -> ResidualBlock:
    """Two times (conv3x3 - BN - [MA] - neuron), and a shortcut around them or not: ``[T, N, C, H, W]`` spikes in and out."""
    syna = config.attention()
    layers: list[nn.Module] = []
    for i in range(2):
        conv = Conv2d(c_in if i == 0 else c_out, c_out, 3, stride if i == 0 else 1, 1, bias=False)
        layers += [conv, BatchNorm2d(c_out)]
        if syna and syna.on_backbone(i, isinstance(shortcut, SpikingShortcut), first_stage):
            layers.append(syna.backbone(c_out, config.T))
        layers.append(config.neuron.build(channels=c_out))
    connection = None if config.connection == PLAIN else CONNECTIONS[config.connection]
    return ResidualBlock(nn.Sequential(*layers), shortcut, connection)


class SynaResNet(SpikingModel):
    """See ``SynaResNetConfig``."""

    def __init__(self, config: SynaResNetConfig) -> None:
        c = config
        channels, size = STEMS[c.stem]
        channels = c.in_channels or channels
        statistics = CIFAR if c.stem == "cifar" and channels == 3 else (None, None)
        super().__init__(c, Normalise(channels, *statistics), (size, size))
        syna = c.attention()

        kernel, stride = {"dvs48": (3, 2), "dvs": (7, 2)}.get(c.stem, (3, 1))
        shrink: list[nn.Module] = [AdaptiveAvgPool2d(48)] if c.stem == "dvs48" else []
        conv = Conv2d(channels, c.widths[0], kernel, stride, kernel // 2, bias=False)
        self.stem = nn.Sequential(*shrink, conv, BatchNorm2d(c.widths[0]))
        self.stem_neuron = c.neuron.build(channels=c.widths[0])
        self.pool = MaxPool2d(3, 2, 1) if c.stem.startswith("dvs") else nn.Identity()

        blocks: list[nn.Module] = []
        c_in = c.widths[0]
        for stage, (c_out, count) in enumerate(zip(c.widths, c.pairs, strict=True)):
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                shortcut: nn.Module | None = None
                if c.connection != PLAIN and stride == 2:
                    gate = syna.shortcut(c_out, c.T) if syna else nn.Identity()
                    neuron = c.neuron.build(channels=c_out, role="shortcut")
                    shortcut = SpikingShortcut(c_in, c_out, stride, gate, neuron)
                elif c.connection != PLAIN and c.identity_shortcuts:
                    shortcut = nn.Identity()
                blocks.append(pair(c, c_in, c_out, stride, shortcut, stage == 0))
                c_in = c_out
        self.blocks = Blocks(*blocks)
        self.head = Linear(c_in, c.num_classes)

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        x = self.stem_neuron(self.in_time(self.stem(x), T))
        x = self.blocks(self.pool(x))
        return self.head(x.mean((-2, -1)))


_SOURCE = "Shan et al. (2023), arXiv 2311.06570"


def _register(name: str, summary: str, config: SynaResNetConfig) -> None:
    register(ModelCard(name, summary, _SOURCE, (3, 32, 32), config))
    small = replace(config, widths=(16, 32, 64, 128), T=4)
    register(ModelCard(f"{name}_small", f"{summary}; widths 16 to 128, T = 4", _SOURCE, (3, 32, 32), small))


_register("syna_resnet18", "OR residuals with synergistic attention (MA + IA)", SynaResNetConfig(ma="T", ia="T"))
for _kind in (*CONNECTIONS, PLAIN):
    _words = "no shortcuts" if _kind == PLAIN else f"{_kind.upper()} residuals, no attention"
    _register(f"{_kind}_resnet18", _words, SynaResNetConfig(connection=_kind))
