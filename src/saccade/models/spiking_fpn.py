"""A pyramid of spikes for dense tasks: Meta-SpikeFormer, a feature pyramid on top, and a head that speaks of each place.

Sources: the backbone is that of Yao et al. (2024), arXiv 2404.03663; the top-down path of Lin et al. (2017), arXiv 1612.03144;
the sum of all levels of Kirillov et al. (2019), Panoptic FPN, arXiv 1901.02446; one box a cell of Redmon et al. (2016), arXiv
1506.02640, with sizes as in Redmon and Farhadi (2018), arXiv 1804.02767. As in the released dense networks of this family the
heads are spiking too: their convolutions read spikes. Widths are ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.nn import functional as F

from saccade.layers import BatchNorm2d, Blocks, Conv2d
from saccade.layers.fold import fold_time
from saccade.models.meta_spikeformer import MetaSpikeformer, MetaSpikeformerConfig
from saccade.models.registry import ModelCard, register

BOX = 5  # numbers of a cell before its classes: is there something, two of its middle, two of its size


@dataclass(frozen=True)
class SpikingFPNConfig(MetaSpikeformerConfig):
    """taps: stages that are read, the finest first (0: half the input's size, 4: a sixteenth). fpn_width: of the pyramid."""

    taps: tuple[int, ...] = (0, 1, 2, 4)
    fpn_width: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.taps or list(self.taps) != sorted(set(self.taps)) or not set(self.taps) <= set(range(5)):
            raise ValueError(f"taps are stages from 0 to 4 in order, got {self.taps}")
        if self.fpn_width < 1:
            raise ValueError(f"fpn_width must be at least 1, got {self.fpn_width}")


@dataclass(frozen=True)
class SegmenterConfig(SpikingFPNConfig):
    """Logits of ``num_classes`` for every pixel, ``[N, K, H, W]``: read off the finest level and enlarged."""

    def build(self) -> Segmenter:
        return Segmenter(self)


@dataclass(frozen=True)
class DetectorConfig(SpikingFPNConfig):
    """For every cell of the finest level 5 numbers and ``num_classes`` logits, ``[N, 5 + K, h, w]`` (see ``Detector``)."""

    taps: tuple[int, ...] = (2, 3, 4)

    def build(self) -> Detector:
        return Detector(self)


class SpikingFPN(MetaSpikeformer):
    """The pyramid up to one map of ``fpn_width`` channels, as fine as the first tap."""

    config: SpikingFPNConfig
    outputs: int

    def __init__(self, config: SpikingFPNConfig) -> None:
        super().__init__(config)
        c, width = config, config.fpn_width
        del self.last
        self.blocks = Blocks(*list(self.blocks)[: self.ends[c.taps[-1]]])  # without what no tap reads
        sizes = (c.widths[0] // 2, *c.widths)
        self.laterals = nn.ModuleList(self.unit(sizes[tap], width, 1) for tap in c.taps)
        self.smooth = nn.ModuleList(self.unit(width, width, 3) for _ in c.taps)
        self.fire = c.neuron.build(channels=width)
        self.head = Conv2d(width, self.outputs, 1)  # type: ignore[assignment]

    def unit(self, inputs: int, outputs: int, kernel: int) -> nn.Module:
        """SN - conv - BN: currents to currents."""
        conv = Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        return nn.Sequential(self.config.neuron.build(channels=inputs), conv, BatchNorm2d(outputs))

    def seen(self, x: Tensor, T: int) -> Tensor:
        """``[T, N, outputs, h, w]``: top down, each level adds what the coarser ones know; then the sum of all."""
        maps = self.pyramid(x, T)
        above: Tensor | None = None
        total: Tensor | None = None
        for level in reversed(range(len(self.config.taps))):
            here = self.laterals[level](maps[self.config.taps[level]])
            above = here if above is None else here + enlarged(above, here)
            smooth = self.smooth[level](above)
            total = smooth if total is None else smooth + enlarged(total, smooth)
        y: Tensor = self.head(self.fire(total))
        return y


class Segmenter(SpikingFPN):
    """See ``SegmenterConfig``."""

    def __init__(self, config: SegmenterConfig) -> None:
        self.outputs = config.num_classes
        super().__init__(config)

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        size = x.shape[-2:]
        return fold_time(lambda y: F.interpolate(y, size=size, mode="bilinear"), self.seen(x, T), "T, N, C, H, W")


class Detector(SpikingFPN):
    """See ``DetectorConfig``. A cell says: logit that the middle of something lies in it; where in it, two logits; logarithm of
    width and height over four cells; a logit for each class. ``train.tasks.detection`` reads it.
    """

    def __init__(self, config: DetectorConfig) -> None:
        self.outputs = BOX + config.num_classes
        super().__init__(config)
        nn.init.constant_(self.head.bias[0:1], -3.0)  # at first nearly all cells hold nothing

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        return self.seen(x, T)


def enlarged(x: Tensor, like: Tensor) -> Tensor:
    """Maps brought to the size of others, each place repeated."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return fold_time(lambda y: F.interpolate(y, size=like.shape[-2:]), x, "T, N, C, H, W")


_SOURCE = "Yao et al. (2024), arXiv 2404.03663"
_SEGMENTER = SegmenterConfig(num_classes=150)
_DETECTOR = DetectorConfig(num_classes=80)
_SMALL = {"widths": (16, 32, 64, 64), "depths": (1, 1, 1, 1, 1), "heads": 4, "fpn_width": 32, "T": 2, "input": "cifar"}


def _register(name: str, size: int, config: SpikingFPNConfig) -> None:
    what = "a class for every pixel" if isinstance(config, SegmenterConfig) else "boxes"
    words = f"{what}: pyramid of widths {', '.join(map(str, config.widths))}"
    register(ModelCard(name, words, _SOURCE, (3, size, size), config))


_register("segmenter_15m", 512, _SEGMENTER)
_register("segmenter_small", 64, replace(_SEGMENTER, **_SMALL, num_classes=5))  # type: ignore[arg-type]
_register("detector_15m", 512, _DETECTOR)
_register("detector_small", 64, replace(_DETECTOR, **_SMALL, num_classes=4))  # type: ignore[arg-type]
