"""The stem of SNN-ViT: spiking patch splitting whose convolutions see near and far."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from saccade.layers.stems.base import STEMS
from saccade.layers.stems.sps import SPSConfig
from saccade.layers.weighted import Conv2d


class NearAndFar(nn.Module):
    """``conv3x3(x) + conv3x3(x, dilated)``, without biases."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.near = Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.far = Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.near(x) + self.far(x)
        return y


@dataclass(frozen=True)
class GLSPSConfig(SPSConfig):
    """As ``SPSConfig``, each of the four convolutions with a dilated one beside it.

    Source: SNN-ViT (2025), arXiv 2502.12677, eq. 12-16 as told by others: standard and dilated branches that are added. Widths
    and dilation are not known, so they are those of Spikformer, and ``dilation`` 2.
    """

    dilation: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dilation < 1:
            raise ValueError(f"dilation must be at least 1, got {self.dilation}")

    def convolution(self, inputs: int, outputs: int) -> nn.Module:
        return NearAndFar(inputs, outputs, self.dilation)


STEMS.register("glsps", GLSPSConfig())
