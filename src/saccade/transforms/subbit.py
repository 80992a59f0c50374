"""Weights below one bit: kernels from learnt codebooks (see ``saccade.layers.subbit``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from saccade.layers.subbit import SubBit
from saccade.layers.weight_forms import Binary, WeightForm
from saccade.transforms.base import TRANSFORMS
from saccade.transforms.quantize import WeightTransform

MOST_PLACES = 9


@dataclass(frozen=True)
class SubBitConfig(WeightTransform):
    """eta: bits of a 3x3 kernel's index, 4, 5, 6 for 0.44, 0.56, 0.67 bits a weight. os, gamma, quantile, normalise: of the
    search, see ``os_quant``. 1x1 kernels and linear layers become binary; kernels of more than nine weights keep their weights.
    """

    one_process: ClassVar[bool] = True  # codebooks learn and are redrawn
    eta: int = 6
    os: bool = True
    gamma: float = 1.5
    quantile: str = "linear"
    normalise: str = "channel"

    def form_for(self, weight: Tensor) -> WeightForm | None:
        places = weight[0, 0].numel() if weight.dim() == 4 else 1
        if places > MOST_PLACES:
            return None
        if places == 1:
            return Binary()
        return SubBit(self.eta, weight, self.os, self.gamma, self.quantile, self.normalise)


TRANSFORMS.register("subbit", SubBitConfig())
