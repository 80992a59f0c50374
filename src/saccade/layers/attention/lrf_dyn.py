"""Attention as the dynamics of dendrites: a scan along tokens that keeps k numbers a channel, however many tokens there are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from saccade.graph.records import Counts
from saccade.layers.attention.base import ATTENTIONS, Attention, AttentionConfig, Site
from saccade.layers.attention.lrf_ssa import LRFBranch, check_dilations
from saccade.neurons.dendritic import DendriticScan

TOKENS = ("kv", "v")
DIRECTIONS = ("causal", "both")


@dataclass(frozen=True)
class LRFDynConfig(AttentionConfig):
    """``SN(q * X + BN(sum over dilations of depthwise conv3x3(v)))``, X a scan of k compartments over tokens in raster order.

    token: what is scanned, "kv" (``k * v``, the counterpart by channel of ``k^T v``) or "v". gate: whether q multiplies X.
    direction: "causal", or "both" (a second scan from the last token on). dilations: () leaves the local branch out.
    form: "scan" or "fft". All channels share the compartments, which are learnt.
    The local branch looks at later tokens too (two rows of its farthest dilation); without it nothing does.
    Source: LRF-Dyn (2026), arXiv 2603.19290, eq. 12-15, which leave open what a token is and how compartments are shared. Its
    counts of parameters are those of LRF-SSA, which rules out other projections.
    """

    k: int = 8
    token: str = "kv"
    gate: bool = True
    direction: str = "causal"
    dilations: tuple[int, ...] = (1, 3, 5)
    form: str = "scan"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.token not in TOKENS:
            raise ValueError(f"token must be one of {', '.join(TOKENS)}, got {self.token!r}")
        if self.direction not in DIRECTIONS:
            raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}, got {self.direction!r}")
        if self.dilations:
            check_dilations(self.dilations)
        DendriticScan(self.k, self.form)

    @property
    def causal_in_tokens(self) -> bool:
        return self.direction == "causal" and not self.dilations

    def build(self, site: Site) -> LRFDyn:
        return LRFDyn(self, site)

    def ops(self, N: int, d: int, h: int) -> Counts:
        scans, kernels, pairs = 1 + (self.direction == "both"), len(self.dilations), self.k // 2
        adds = scans * (5 * pairs - 1) + (scans - 1) + kernels
        ands = (self.token == "kv") + self.gate
        return Counts(
            dense_macs=9 * kernels * N * d,
            mults=6 * scans * pairs * N * d,
            adds=adds * N * d,
            ands=ands * N * d,
            norm=N * d * bool(kernels),
        )

    def state(self, N: int, d: int, h: int) -> int:
        return self.k * d


class LRFDyn(Attention):
    """See ``LRFDynConfig``. Without a gate there is no q, with "v" as the token no k."""

    config: LRFDynConfig

    def __init__(self, config: LRFDynConfig, site: Site) -> None:
        super().__init__(config, site)
        d = site.channels
        self.parts = (*("q" * config.gate), *("k" * (config.token == "kv")), "v")
        for part in self.parts:
            self.add_module(part, site.spikes(d))
        self.scans = torch.nn.ModuleList(
            DendriticScan(config.k, config.form) for _ in range(1 + (config.direction == "both"))
        )
        self.local = LRFBranch(d, config.dilations) if config.dilations else None
        self.neuron = site.neuron.after_product().build(channels=d)

    def mix(self, *parts: Tensor) -> Tensor:
        named = dict(zip(self.parts, parts, strict=True))
        y = self.scanned(named)
        if self.config.gate:
            y = named["q"] * y
        return y if self.local is None else y + self.local(named["v"])

    def scanned(self, parts: dict[str, Tensor]) -> Tensor:
        """What the scans read out at every place, maps ``[T, N, C, H, W]``."""
        v = parts["v"]
        token = parts["k"] * v if self.config.token == "kv" else v
        along = token.flatten(0, 1).flatten(2).transpose(1, 2)  # [T * N, L, C]
        y = self.scans[0](along)
        if self.config.direction == "both":
            y = y + self.scans[1](along.flip(1)).flip(1)
        maps: Tensor = y.transpose(1, 2).unflatten(2, v.shape[-2:]).unflatten(0, v.shape[:2])
        return maps


ATTENTIONS.register("lrf_dyn", LRFDynConfig())
