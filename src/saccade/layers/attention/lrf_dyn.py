"""Attention as the dynamics of dendrites: a scan along tokens that keeps k numbers a channel, however many tokens there are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from saccade.graph.records import Counts
from saccade.kernels.onlookers import somebody
from saccade.layers.attention.base import ATTENTIONS, Attention, AttentionConfig, Site, emitted
from saccade.layers.attention.lrf_ssa import LRFBranch, check_dilations
from saccade.neurons import NeuronConfig
from saccade.neurons.dendritic import DendriticScan

TOKENS = ("kv", "v")
DIRECTIONS = ("causal", "both")


@dataclass(frozen=True)
class LRFDynConfig(AttentionConfig):
    """``SN(q * X + BN(sum over dilations of depthwise conv3x3(v)))``, X a scan of k compartments over tokens in raster order.

    token: what is scanned, "kv" (``k * v``, the counterpart by channel of ``k^T v``) or "v". gate: whether q multiplies X.
    direction: "causal", or "both" (a second scan from the last token on). dilations: () leaves the local branch out.
    form: "scan" or "fft". All channels share the compartments, which are learnt.
    value_ratio: channels of v for each of q and k, which then meets that many of v. halve: as in ``SSAConfig``.
    by_row: in eval mode and without gradients, work off one row of the map after the other: the same values, and besides the
    output only k numbers a channel and a few rows are held.
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
    value_ratio: int = 1
    halve: bool = True
    by_row: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.token not in TOKENS:
            raise ValueError(f"token must be one of {', '.join(TOKENS)}, got {self.token!r}")
        if self.direction not in DIRECTIONS:
            raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}, got {self.direction!r}")
        if self.dilations:
            check_dilations(self.dilations)
        if self.value_ratio < 1:
            raise ValueError(f"value_ratio must be at least 1, got {self.value_ratio}")
        if self.by_row and (self.form != "scan" or self.direction != "causal"):
            raise ValueError(
                "by_row is for a causal scan: a Fourier transform, or a way back, needs all tokens at once"
            )
        DendriticScan(self.k, self.form)

    @property
    def causal_in_tokens(self) -> bool:
        return self.direction == "causal" and not self.dilations

    def build(self, site: Site) -> LRFDyn:
        return LRFDyn(self, site)

    def ops(self, N: int, d: int, h: int) -> Counts:
        scans, kernels, pairs = 1 + (self.direction == "both"), len(self.dilations), self.k // 2
        adds = scans * (5 * pairs - 1) + (scans - 1) + kernels
        ands, width = (self.token == "kv") + self.gate, d * self.value_ratio
        return Counts(
            dense_macs=9 * kernels * N * width,
            mults=6 * scans * pairs * N * width,
            adds=adds * N * width,
            ands=ands * N * width,
            norm=N * width * bool(kernels),
        )

    def output(self, neuron: NeuronConfig) -> tuple[float, ...]:
        return emitted(neuron.after_product() if self.halve else neuron)

    def state(self, N: int, d: int, h: int) -> int:
        return self.k * d * self.value_ratio


class LRFDyn(Attention):
    """See ``LRFDynConfig``. Without a gate there is no q, with "v" as the token no k."""

    config: LRFDynConfig

    def __init__(self, config: LRFDynConfig, site: Site) -> None:
        super().__init__(config, site)
        d, width = site.channels, site.channels * config.value_ratio
        self.out_channels = width
        self.parts = (*("q" * config.gate), *("k" * (config.token == "kv")), "v")
        for part in self.parts:
            self.add_module(part, site.spikes(width if part == "v" else d))
        self.scans = torch.nn.ModuleList(
            DendriticScan(config.k, config.form) for _ in range(1 + (config.direction == "both"))
        )
        self.local = LRFBranch(width, config.dilations) if config.dilations else None
        self.neuron = (site.neuron.after_product() if config.halve else site.neuron).build(channels=width)

    def mix(self, *parts: Tensor) -> Tensor:
        v = parts[-1]
        if self.config.by_row and not (self.training or torch.is_grad_enabled() or somebody(v)):
            return self.row_by_row(parts)
        y = self.gated(parts, self.along(self.token(parts)))
        return y if self.local is None else y + self.local(v)

    def token(self, parts: tuple[Tensor, ...]) -> Tensor:
        """What is scanned, maps ``[T, N, C, H, W]``."""
        return self.times(parts[-2], parts[-1]) if self.config.token == "kv" else parts[-1]

    def gated(self, parts: tuple[Tensor, ...], y: Tensor) -> Tensor:
        return self.times(parts[0], y) if self.config.gate else y

    def times(self, few: Tensor, many: Tensor) -> Tensor:
        """Each channel of q or k times its ``value_ratio`` channels, which lie together: so heads stay heads."""
        ratio = self.config.value_ratio
        return few * many if ratio == 1 else (few.unsqueeze(3) * many.unflatten(2, (-1, ratio))).flatten(2, 3)

    def along(self, token: Tensor) -> Tensor:
        """What the scans read out at every place, maps ``[T, N, C, H, W]``."""
        x = in_raster_order(token)
        y = self.scans[0](x)
        if self.config.direction == "both":
            y = y + self.scans[1](x.flip(1)).flip(1)
        return as_maps(y, token)

    def row_by_row(self, parts: tuple[Tensor, ...]) -> Tensor:
        """``mix`` from one row to the next: the compartments are all that is carried."""
        scan: DendriticScan = self.scans[0]  # type: ignore[assignment]
        v, state = parts[-1], None
        mixed = torch.empty_like(v)
        for at in range(v.shape[-2]):
            of_row = tuple(part[..., at : at + 1, :] for part in parts)
            token = self.token(of_row)
            y, state = scan.step(in_raster_order(token), state)
            y = self.gated(of_row, as_maps(y, token))
            mixed[..., at : at + 1, :] = y if self.local is None else y + self.local.row(v, at)
        return mixed


def in_raster_order(maps: Tensor) -> Tensor:
    """Maps ``[T, N, C, H, W]`` as sequences of tokens ``[T * N, H * W, C]``."""
    return maps.flatten(0, 1).flatten(2).transpose(1, 2)


def as_maps(tokens: Tensor, like: Tensor) -> Tensor:
    """The way back from ``in_raster_order``."""
    return tokens.transpose(1, 2).unflatten(2, like.shape[-2:]).unflatten(0, like.shape[:2])


ATTENTIONS.register("lrf_dyn", LRFDynConfig())
