"""Query-key channel attention: queries say which channels of the keys pass, ``SN(sum over tokens of q) * k``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from saccade.layers.attention.base import ATTENTIONS
from saccade.layers.attention.qkta import QKTAConfig


@dataclass(frozen=True)
class QKCAConfig(QKTAConfig):
    """As ``QKTAConfig`` with the sum over tokens. Source: Zhou et al. (2024), QKFormer; in its paper, not in its code."""

    over: ClassVar[int] = -1

    def state(self, N: int, d: int, h: int) -> int:
        return d


ATTENTIONS.register("qkca", QKCAConfig())
