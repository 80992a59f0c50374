"""LIF neurons whose stored potential has a few bits: what MFP-QSNN improves on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from saccade.neurons.lif import LIF, LIFConfig
from saccade.neurons.spiking import NeuronConfig
from saccade.neurons.temporal import State, StateSpec

MODES = ("qsnn", "uniform", "pow2")
ALPHAS = ("sample", "paper_code")


@dataclass(frozen=True)
class QuantizedMembraneConfig(NeuronConfig):
    """How a LIF neuron's potential is stored between steps, after the reset. lif: the neuron, all else of which stays.

    mode: "qsnn": ``alpha / L * round(L * clip(tanh(u) / alpha))`` with ``L = 2^(bits-1) - 1``; "uniform": the same without
    tanh; "pow2": the nearest of ``0, ±alpha, ±alpha/2, ..., ±alpha/2^(L-1)``.
    bits: 2 to 8, one of them the sign.
    alpha: the largest magnitude: "sample": of that sample at that step; a number: fixed, the only choice that hardware
    without a search for the largest can follow; "paper_code": of the whole tensor, as in the released code, where a
    sample's spikes depend on the others in its batch.

    tanh acts on every step, so "qsnn" does not become the plain LIF as the bits grow.
    Source: Wei et al. (2024), Q-SNN, released code (8 bits); "pow2" ours.
    """

    mode: str = "qsnn"
    bits: int = 8
    alpha: float | str = "sample"
    lif: LIFConfig = field(default_factory=LIFConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode not in MODES:
            raise ValueError(f"membrane mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        if self.bits == 1:
            raise ValueError("a membrane of 1 bit, the sign, holds no level but zero; give 2 to 8 bits")
        if self.bits not in range(2, 9):
            raise ValueError(f"membrane bits must be 2 to 8, got {self.bits}")
        if isinstance(self.alpha, str) and self.alpha not in ALPHAS:
            raise ValueError(f"membrane alpha must be a number or one of {', '.join(ALPHAS)}, got {self.alpha!r}")
        if not isinstance(self.alpha, str) and not 0 < self.alpha < math.inf:
            raise ValueError(f"membrane alpha must be positive and finite, got {self.alpha}")

    def build(self, *, channels: int | None = None, channel_axis: int = 2, role: str = "") -> QuantizedMembraneLIF:
        return QuantizedMembraneLIF(self, channels=channels, channel_axis=channel_axis, role=role)


def quantize_potential(v: Tensor, config: QuantizedMembraneConfig) -> Tensor:
    """A potential ``[N, ...]`` as it is stored; the gradient passes rounding as if it were the identity."""
    if config.mode == "qsnn":
        v = torch.tanh(v)
    size = v.detach().abs()
    if config.alpha == "sample":
        alpha = size.flatten(1).amax(1).view(-1, *[1] * (v.dim() - 1)) if v.dim() > 1 else size
    elif config.alpha == "paper_code":
        alpha = size.amax()
    else:
        alpha = torch.as_tensor(config.alpha, dtype=v.dtype, device=v.device)
    alpha = alpha.clamp(min=torch.finfo(v.dtype).tiny)  # all of them zero
    unit = v / alpha
    unit = torch.where(
        unit.abs() > 1, unit.sign(), unit
    )  # as clamp; at the edge, where the largest is, gradients pass in any torch
    fixed, levels = unit.detach(), 2 ** (config.bits - 1) - 1
    if config.mode == "pow2":
        exponent = torch.round(torch.log2(fixed.abs()))  # of zero: -inf, which is below the smallest too
        rounded = torch.where(exponent > -levels, fixed.sign() * torch.exp2(exponent), 0.0)
    else:
        rounded = torch.round(fixed * levels) / levels
    return alpha * (rounded + (unit - fixed))  # exactly zero is added


class QuantizedMembraneLIF(LIF):
    """``LIF`` that stores ``quantize_potential`` of its potential after each reset; all else is that of ``LIF``."""

    def __init__(
        self,
        config: QuantizedMembraneConfig | None = None,
        *,
        channels: int | None = None,
        channel_axis: int = 2,
        role: str = "",
    ) -> None:
        self._membrane = config or QuantizedMembraneConfig()
        super().__init__(self._membrane.lif, channels=channels, channel_axis=channel_axis, role=role)

    @property
    def config(self) -> QuantizedMembraneConfig:  # type: ignore[override]
        return replace(self._membrane, lif=super().config)

    def state_spec(self, shape: tuple[int, ...]) -> StateSpec:
        return {"v": (shape, self._membrane.bits)}

    def run(
        self, x: Tensor, state: State = None, *, last: bool = True, record: bool = False
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        spikes, potentials = [], []
        kept: Tensor | None = state  # type: ignore[assignment]
        for current in x.split(1):
            s, v, u = super().run(current, kept, last=True, record=record)
            assert v is not None
            kept = quantize_potential(v, self._membrane)
            spikes.append(s)
            if u is not None:
                potentials.append(u)
        if not spikes:
            return super().run(x, state, last=last, record=record)
        return torch.cat(spikes), kept if last else None, torch.cat(potentials) if record else None
