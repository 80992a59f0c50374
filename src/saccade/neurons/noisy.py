"""LIF neurons with noise on their potential: the firing of a step is drawn, not certain."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from saccade.neurons.lif import LIF, LIFConfig
from saccade.neurons.spiking import NEURONS, NeuronConfig
from saccade.neurons.temporal import State

WHEN = ("train", "always", "off")
MODES = ("reparameterised", "bernoulli")


@dataclass(frozen=True)
class NoisyLIFConfig(NeuronConfig):
    """A LIF whose potential has a normal error of standard deviation ``sigma`` in every step: fires with the probability
    ``Phi((u - v_th) / sigma)``. lif: the neuron, all else of which stays.

    when: "train" (in training mode alone), "always" or "off". Sources contradict each other on which: with noise at the test,
    attacks have to average over it, and figures are to be given with it and without. mode: "reparameterised" (the error is
    added, passes into the reset and on, and gradients take the LIF's surrogate) or "bernoulli" (the spike is drawn, its
    gradient is the normal density, the kept potential has no error).
    Source: the noisy LIF of Wang et al. (2026), threshold guarding, from notes; Ma et al. (2023), NSNN, for the two forms.
    """

    sigma: float = 0.3
    when: str = "train"
    mode: str = "reparameterised"
    lif: LIFConfig = field(default_factory=LIFConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.sigma < math.inf:
            raise ValueError(f"sigma is at least 0 and finite, got {self.sigma}")
        if self.when not in WHEN:
            raise ValueError(f"when must be one of {', '.join(WHEN)}, got {self.when!r}")
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")

    def build(self, *, channels: int | None = None, channel_axis: int = 2, role: str = "") -> NoisyLIF:
        return NoisyLIF(self, channels=channels, channel_axis=channel_axis, role=role)

    def after_product(self) -> NoisyLIFConfig:
        return replace(self, lif=self.lif.after_product())


class _Drawn(torch.autograd.Function):
    """A spike with the probability ``Phi(d / sigma)``; its gradient is the density of the error."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor, sigma: float) -> Tensor:
        ctx.save_for_backward(distance)
        ctx.sigma = sigma
        return (distance + sigma * torch.randn_like(distance) >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        (distance,) = ctx.saved_tensors
        density = torch.exp(-(distance / ctx.sigma).square() / 2) / (ctx.sigma * math.sqrt(2 * math.pi))
        return grad * density, None


class NoisyLIF(LIF):
    """``LIF`` with an error of its potential while ``noisy``; else the LIF itself, spike for spike."""

    def __init__(
        self,
        config: NoisyLIFConfig | None = None,
        *,
        channels: int | None = None,
        channel_axis: int = 2,
        role: str = "",
    ) -> None:
        self._noise = config or NoisyLIFConfig()
        super().__init__(self._noise.lif, channels=channels, channel_axis=channel_axis, role=role)

    @property
    def config(self) -> NoisyLIFConfig:  # type: ignore[override]
        return replace(self._noise, lif=super().config)

    @property
    def noisy(self) -> bool:
        n = self._noise
        return n.sigma > 0 and (n.when == "always" or (n.when == "train" and self.training))

    @property
    def integrates_alone(self) -> bool:
        return not self.noisy

    def run(
        self, x: Tensor, state: State = None, *, last: bool = True, record: bool = False
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        if not self.noisy or not len(x):
            return super().run(x, state, last=last, record=record)
        c, n = self._config, self._noise
        rate: Any = torch.sigmoid(self.w) if c.learn_tau else 1 / c.tau
        v_th: Any = c.v_th if self._buffers["v_th"] is None else self.by_channel(self.get_buffer("v_th"), x).to(x.dtype)
        v: Any = torch.full_like(x[0], c.v_rest) if state is None else state
        gain = rate if c.decay_input else 1.0
        spikes, potentials = [], []
        for current in x:
            u = c.v_rest + (1 - rate) * (v - c.v_rest) + gain * current
            potentials.append(u)
            if n.mode == "bernoulli":
                s = _Drawn.apply(u - v_th, n.sigma)
            else:
                u = u + n.sigma * torch.randn_like(u)
                distance = u - v_th
                soft = c.surrogate.primitive(distance)
                s = (distance >= 0).to(u.dtype) + (soft - soft.detach())
            back = s.detach() if c.detach_reset else s
            v = u * (1 - back) + c.v_reset * back if c.reset == "hard" else u - v_th * back if c.reset == "soft" else u
            spikes.append(s)
        return torch.stack(spikes), v if last else None, torch.stack(potentials) if record else None


NEURONS.register("noisy_lif", NoisyLIFConfig())
