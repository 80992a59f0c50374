"""Spiking self-attention, keys and values first: ``q (k^T v)``. State d^2/h, whatever the number of tokens."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from saccade.graph.records import Counts
from saccade.layers.attention.base import ATTENTIONS, Attention, AttentionConfig, Site, emitted, to_heads, to_maps
from saccade.neurons import NeuronConfig, expanded_product
from saccade.neurons.integer import in_a_row, in_windows


@dataclass(frozen=True)
class SSAConfig(AttentionConfig):
    """``SN(scale * q (k^T v))`` of spikes q, k, v, without a softmax.

    scale: fixed, 0.125 on images and 0.25 on events as released; None is ``2 / sqrt(d/h)`` (Spike-driven Transformer v3).
    value_ratio: channels of v for each of q and k. halve: whether SN has half the threshold (``NeuronConfig.after_product``).
    Source: Zhou et al. (2023), Spikformer, eq. 6-9.
    """

    scale: float | None = 0.125
    value_ratio: int = 1
    halve: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.value_ratio < 1:
            raise ValueError(f"value_ratio must be at least 1, got {self.value_ratio}")

    def build(self, site: Site) -> SSA:
        return SSA(self, site)

    def ops(self, N: int, d: int, h: int) -> Counts:
        return Counts(dense_macs=2 * N * d * (d // h) * self.value_ratio)

    def output(self, neuron: NeuronConfig) -> tuple[float, ...]:
        return emitted(neuron.after_product() if self.halve else neuron)

    def state(self, N: int, d: int, h: int) -> int:
        return d * d // h * self.value_ratio


class SSA(Attention):
    """See ``SSAConfig``."""

    config: SSAConfig

    def __init__(self, config: SSAConfig, site: Site) -> None:
        super().__init__(config, site)
        d = site.channels
        self.out_channels = d * config.value_ratio
        self.q, self.k, self.v = site.spikes(d), site.spikes(d), site.spikes(self.out_channels)
        neuron = site.neuron.after_product() if config.halve else site.neuron
        self.neuron = neuron.build(channels=self.out_channels)
        self.scale = 2 / (d // site.heads) ** 0.5 if config.scale is None else config.scale

    def mix(self, *parts: Tensor) -> Tensor:
        q, k, v = (to_heads(part, self.heads) for part in parts)
        return to_maps(self.scale * self.product(q, k, v), parts[0])

    def product(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """``[T, N, h, C/h, L]`` each; the sum over tokens of ``(q_n . k_m) v_m``, for each token n."""
        return (v @ k.transpose(-1, -2)) @ q


class UnrolledSSA(SSA):
    """An SSA (of either order) at inference, with binary spikes of D virtual steps a step (see ``neurons.Unrolled``).

    Its product is none of the products of single virtual steps, summed: values are counted first, then for each virtual step of
    the keys ``k_d^T v``, and with the sum of these, for each virtual step of the queries, ``q_d`` of it. D times as many
    products, additions alone. Takes the parts of the attention that it replaces.
    """

    def __init__(self, attention: SSA, D: int) -> None:
        nn.Module.__init__(self)
        self.config, self.heads, self.out_channels = attention.config, attention.heads, attention.out_channels
        self.q, self.k, self.v, self.neuron = attention.q, attention.k, attention.v, attention.neuron
        self.scale, self.D = attention.scale, D

    def mix(self, *parts: Tensor) -> Tensor:
        q, k, v = (in_windows(to_heads(part, self.heads), self.D).transpose(-1, -2) for part in parts)
        y = expanded_product(q, k, v.sum(0)).transpose(-1, -2) * (self.scale / self.D**3)
        return to_maps(in_a_row(y.expand(self.D, *y.shape)), parts[0])


ATTENTIONS.register("ssa_kv", SSAConfig())
