"""Spiking self-attention, keys and values first: ``q (k^T v)``. State d^2/h, whatever the number of tokens."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from saccade.graph.records import Counts
from saccade.layers.attention.base import ATTENTIONS, Attention, AttentionConfig, Site, to_heads, to_maps


@dataclass(frozen=True)
class SSAConfig(AttentionConfig):
    """``SN(scale * q (k^T v))`` of spikes q, k, v, without a softmax; SN at half the threshold.

    scale: fixed, 0.125 on images and 0.25 on events as released. Source: Zhou et al. (2023), Spikformer, eq. 6-9.
    """

    scale: float = 0.125

    def build(self, site: Site) -> SSA:
        return SSA(self, site)

    def ops(self, N: int, d: int, h: int) -> Counts:
        return Counts(dense_macs=2 * N * d * (d // h))

    def state(self, N: int, d: int, h: int) -> int:
        return d * d // h


class SSA(Attention):
    """See ``SSAConfig``."""

    config: SSAConfig

    def __init__(self, config: SSAConfig, site: Site) -> None:
        super().__init__(config, site)
        self.q, self.k, self.v = (site.spikes(site.channels) for _ in range(3))
        self.neuron = site.neuron.after_product().build(channels=site.channels)

    def mix(self, *parts: Tensor) -> Tensor:
        q, k, v = (to_heads(part, self.heads) for part in parts)
        return to_maps(self.config.scale * self.product(q, k, v), parts[0])

    def product(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """``[T, N, h, C/h, L]`` each; the sum over tokens of ``(q_n . k_m) v_m``, for each token n."""
        return (v @ k.transpose(-1, -2)) @ q


ATTENTIONS.register("ssa_kv", SSAConfig())
