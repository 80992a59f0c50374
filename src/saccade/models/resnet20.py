"""Wide ResNet-20 with parameter-free shortcuts, and the ResNet-19 of the sub-bit work.

Sources: Wei et al. (2025), QP-SNN, arXiv 2502.05905, and Wei et al. (2025), S2NN, arXiv 2509.24266, as their sizes fix them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.layers import BatchNorm2d, Blocks, Conv2d, Linear
from saccade.layers.fold import folded
from saccade.models.base import Normalise, SpikingModel
from saccade.models.channels import ChannelGroup
from saccade.models.registry import ModelCard, register
from saccade.models.syna_resnet import CIFAR_MEAN, CIFAR_STD
from saccade.neurons import neuron

WIDTHS = (128, 256, 512)


class PadShortcut(nn.Module):
    """Every ``stride``-th place, and channels of zeros half before and half after: no parameters.

    Where channels were removed, ``source`` says which input channel each output channel takes, -1 for zeros.
    """

    graph_layer = True
    source: Tensor | None

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        if c_out < c_in:
            raise ValueError(f"a shortcut that pads cannot lose channels: {c_in} to {c_out}")
        self.channels = c_in
        self.stride, self.before, self.after = stride, (c_out - c_in) // 2, c_out - c_in - (c_out - c_in) // 2
        self.register_buffer("source", None)

    def keep_sides(self, inside: Tensor | None, outside: Tensor | None) -> None:
        """Keep these input and output channels (None: all)."""
        source = self.source
        if source is None:
            source = torch.arange(-self.before, self.channels + self.after)
            source = torch.where(source < self.channels, source, -1).clamp(min=-1)
        if outside is not None:
            source = source[outside.to(source.device)]
        if inside is not None:
            place = torch.full((self.channels + 1,), -1, device=source.device)  # the last stands for zeros
            place[inside.to(source.device)] = torch.arange(len(inside), device=source.device)
            source, self.channels = place[source], len(inside)
        self.source = source

    def forward(self, x: Tensor) -> Tensor:
        if self.source is None:
            return folded(self._pad, x) if self.stride > 1 or self.before or self.after else x
        return folded(self._gather, x)

    def _pad(self, x: Tensor) -> Tensor:
        return F.pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))

    def _gather(self, x: Tensor) -> Tensor:
        assert self.source is not None
        x = F.pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, 0, 1))  # a channel of zeros for index -1
        return x[:, self.source]


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

    def channel_groups(self) -> dict[str, ChannelGroup]:
        """The stem, the middle of each block, and the outputs of each stage but the last, which its shortcuts tie together."""
        count = len(self.blocks)

        def reads(i: int) -> tuple[tuple[str, int], ...]:
            return ((f"blocks.{i}.conv1", 1), (f"blocks.{i}.shortcut", 1))

        groups = {"stem": ChannelGroup((("stem.0", "stem.1"),), ("stem_neuron",), reads(0))}
        for stage in range(count // 3 - 1):
            blocks = range(3 * stage, 3 * stage + 3)
            groups[f"stage{stage + 1}"] = ChannelGroup(
                tuple((f"blocks.{i}.conv2", f"blocks.{i}.norm2") for i in blocks),
                tuple(f"blocks.{i}.neuron2" for i in blocks),
                tuple(reader for i in blocks for reader in reads(i + 1)),
                tuple(f"blocks.{i}.shortcut" for i in blocks),
            )
        for i in range(count):
            producer = (f"blocks.{i}.conv1", f"blocks.{i}.norm1")
            groups[f"middle{i + 1}"] = ChannelGroup((producer,), (f"blocks.{i}.neuron1",), ((f"blocks.{i}.conv2", 1),))
        return groups


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


def membrane_groups(model: SpikingModel) -> dict[str, ChannelGroup]:
    """Groups of a network of membrane-shortcut blocks (``residual`` of neuron - conv - BN twice, and ``shortcut``).

    Currents run from block to block, so a group starts at the stem or at a projection, and ends at the next; the middle of
    each block is one of its own. The last one, which the head reads, is left out.
    """
    blocks: Any = model.blocks
    middles: dict[str, ChannelGroup] = {}
    streams: dict[str, list[list[Any]]] = {"stem": [[_last(model.stem, "stem")], [], []]}
    current = streams["stem"]
    for i, block in enumerate(blocks):
        kinds = [type(layer) for layer in block.residual]
        if len(kinds) != 6 or kinds[:3] != kinds[3:]:
            raise ValueError(
                f"blocks.{i}: has more than neurons, convolutions and norms, so its channels cannot be removed"
            )
        path = f"blocks.{i}"
        current[1].append(f"{path}.residual.0")
        current[2].append((f"{path}.residual.1", 1))
        middle = ((f"{path}.residual.1", f"{path}.residual.2"),), (f"{path}.residual.3",), ((f"{path}.residual.4", 1),)
        middles[f"middle{i + 1}"] = ChannelGroup(*middle)
        projection = [j for j, layer in block.shortcut.named_children() if isinstance(layer, Conv2d)]
        if projection:
            current[2].append((f"{path}.shortcut.{projection[0]}", 1))
            current = streams.setdefault(f"stage{len(streams)}", [[_last(block.shortcut, f"{path}.shortcut")], [], []])
        current[0].append((f"{path}.residual.4", f"{path}.residual.5"))
    done = {name: ChannelGroup(*map(tuple, parts)) for name, parts in list(streams.items())[:-1]}  # type: ignore[arg-type]
    return done | middles


def _last(layers: Any, path: str) -> tuple[str, str]:
    """Paths of the last convolution and norm of a sequence."""
    convs = [name for name, layer in layers.named_children() if isinstance(layer, Conv2d)]
    norms = [name for name, layer in layers.named_children() if isinstance(layer, BatchNorm2d)]
    return f"{path}.{convs[-1]}", f"{path}.{norms[-1]}"


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

    def channel_groups(self) -> dict[str, ChannelGroup]:
        return membrane_groups(self)


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
