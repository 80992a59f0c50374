"""SynA-ResNet: spike-driven residual networks joined by OR, and its twins.

Source: Shan et al. (2023), arXiv 2311.06570, as its released files build it. Only the projections between stages are
shortcuts: the first stage and the second pair of each stage have none (``identity_shortcuts=True`` adds them).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from saccade.layers import AdaptiveAvgPool2d, BatchNorm2d, Blocks, Conv2d, Linear, MaxPool2d, SynA, connect
from saccade.layers.residual import SpikingShortcut
from saccade.models.base import Normalise, SpikingModel
from saccade.models.registry import ModelCard, register
from saccade.neurons import neuron

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
STEMS = ("dvs48", "dvs", "cifar", "mnist")


class Pair(nn.Module):
    """Two times (conv3x3 - BN - [MA] - neuron), and a shortcut around them or not: ``[T, N, C, H, W]`` spikes in and out.

    The output is the backbone's spikes ``a``, or ``connect(a, s)`` with the shortcut's spikes ``s``.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        stride: int,
        T: int,
        connection: str,
        shortcut: nn.Module | None,
        syna: SynA | None,
        preset: str,
        first_stage: bool,
    ) -> None:
        super().__init__()
        self.connection = connection
        c_in, c_out = channels
        layers: list[nn.Module] = []
        for i in range(2):
            layers += [
                Conv2d(c_in if i == 0 else c_out, c_out, 3, stride if i == 0 else 1, 1, bias=False),
                BatchNorm2d(c_out),
            ]
            if syna and syna.on_backbone(i, isinstance(shortcut, SpikingShortcut), first_stage):
                layers.append(syna.backbone(c_out, T))
            layers.append(neuron(preset))
        self.backbone = nn.Sequential(*layers)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        a = self.backbone(x)
        return a if self.shortcut is None else connect(a, self.shortcut(x), self.connection)


class SynaResNet(SpikingModel):
    """Residual network of pairs of convolutions whose stages are joined by spiking shortcuts.

    connection: "or", "add", "iand", "and", or "plain" for no shortcut at all. syna: where attention sits, or None.
    stem: "cifar" (3x3) and "mnist" (3x3, one channel) keep the resolution; "dvs48" (mean to 48x48, 3x3 stride 2, max-pool)
    and "dvs" (7x7 stride 2, max-pool) are for 128x128 events. widths, pairs: channels and pairs of each stage.
    in_channels: other than the stem's. preset: the neurons' (see ``saccade.neurons.PRESETS``).
    """

    def __init__(
        self,
        stem: str = "cifar",
        T: int = 16,
        num_classes: int = 10,
        widths: Sequence[int] = (64, 128, 256, 512),
        pairs: Sequence[int] = (2, 2, 2, 2),
        connection: str = "or",
        syna: SynA | None = None,
        identity_shortcuts: bool = False,
        in_channels: int | None = None,
        preset: str = "lif",
        readout: str = "mean",
    ) -> None:
        if stem not in STEMS:
            raise ValueError(f"unknown stem {stem!r}; known: {', '.join(STEMS)}")
        if len(widths) != len(pairs):
            raise ValueError(f"{len(widths)} widths but {len(pairs)} pair counts")
        channels = in_channels or {"cifar": 3, "mnist": 1}.get(stem, 2)
        statistics = (CIFAR_MEAN, CIFAR_STD) if stem == "cifar" and channels == 3 else (None, None)
        super().__init__(T, num_classes, Normalise(channels, *statistics), readout)

        kernel, stride = {"dvs48": (3, 2), "dvs": (7, 2)}.get(stem, (3, 1))
        shrink: list[nn.Module] = [AdaptiveAvgPool2d(48)] if stem == "dvs48" else []
        conv = Conv2d(channels, widths[0], kernel, stride, kernel // 2, bias=False)
        self.stem = nn.Sequential(*shrink, conv, BatchNorm2d(widths[0]))
        self.stem_neuron = neuron(preset)
        self.pool = MaxPool2d(3, 2, 1) if stem.startswith("dvs") else nn.Identity()

        blocks: list[nn.Module] = []
        c_in = widths[0]
        for stage, (c_out, count) in enumerate(zip(widths, pairs, strict=True)):
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                shortcut: nn.Module | None = None
                if connection != "plain" and stride == 2:
                    gate = syna.shortcut(c_out, T) if syna else nn.Identity()
                    shortcut = SpikingShortcut(c_in, c_out, stride, gate, neuron(preset, role="shortcut"))
                elif connection != "plain" and identity_shortcuts:
                    shortcut = nn.Identity()
                blocks.append(Pair((c_in, c_out), stride, T, connection, shortcut, syna, preset, stage == 0))
                c_in = c_out
        self.blocks = Blocks(*blocks)
        self.head = Linear(c_in, num_classes)

    def step_logits(self, x: Tensor) -> Tensor:
        x = self.stem_neuron(self.in_time(self.stem(x)))
        x = self.blocks(self.pool(x))
        return self.head(x.mean((-2, -1)))


SMALL = (16, 32, 64, 128)


def _build(
    stem: str = "cifar",
    T: int = 16,
    num_classes: int = 10,
    widths: Sequence[int] = (64, 128, 256, 512),
    pairs: Sequence[int] = (2, 2, 2, 2),
    identity_shortcuts: bool = False,
    in_channels: int | None = None,
    preset: str = "lif",
    readout: str = "mean",
    *,
    connection: str,
) -> SpikingModel:
    return SynaResNet(
        stem, T, num_classes, widths, pairs, connection, None, identity_shortcuts, in_channels, preset, readout
    )


def _build_syna(
    stem: str = "cifar",
    T: int = 16,
    num_classes: int = 10,
    widths: Sequence[int] = (64, 128, 256, 512),
    pairs: Sequence[int] = (2, 2, 2, 2),
    connection: str = "or",
    identity_shortcuts: bool = False,
    in_channels: int | None = None,
    preset: str = "lif",
    readout: str = "mean",
    ma: str = "T",
    ia: str = "T",
    position: str | None = None,
    trailing_relu: bool = True,
    open_bias: float = 0.0,
    reduction_t: int = 4,
) -> SpikingModel:
    if stem == "mnist" and position is None:
        ma = ia = ""  # the released (Fashion-)MNIST file has every gate commented out
    syna = SynA(
        ma=ma,
        ia=ia,
        position=position or {"dvs48": "a", "dvs": "d"}.get(stem, "b"),
        trailing_relu=trailing_relu,
        open_bias=open_bias,
        reduction_t=reduction_t,
    )
    return SynaResNet(
        stem, T, num_classes, widths, pairs, connection, syna, identity_shortcuts, in_channels, preset, readout
    )


_SOURCE = "Shan et al. (2023), arXiv 2311.06570"


def _register(name: str, summary: str, build: Any) -> None:
    register(ModelCard(name, summary, _SOURCE, (3, 32, 32), build))
    small = partial(build, widths=SMALL, T=4)
    register(ModelCard(f"{name}_small", f"{summary}; widths 16 to 128, T = 4", _SOURCE, (3, 32, 32), small))


_register("syna_resnet18", "OR residuals with synergistic attention (MA + IA)", _build_syna)
for _kind in ("or", "add", "iand", "and", "plain"):
    _words = "no shortcuts" if _kind == "plain" else f"{_kind.upper()} residuals, no attention"
    _register(f"{_kind}_resnet18", _words, partial(_build, connection=_kind))
