"""Integer neurons: trained with several levels in one step, run as so many binary spikes.

A level s of 0 to D stands for s spikes of a window of D virtual steps (``unroll``). What a layer of weights makes of it is the
sum over those steps, and the division by D goes into its weights.

Source: Luo et al. (2024), I-LIF (SpikeYOLO); Yao et al. (2025), Spike-driven Transformer v3; Qiu et al. (2025),
QSD-Transformer (IE-LIF). All released code is stateless: with the same input in every step, more steps change nothing. The form
with a state is our reading of the QSD paper's equation, whose body was not public to us.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from saccade import kernels
from saccade.kernels.integer import Levels, divided, level
from saccade.neurons.spiking import NEURONS, NeuronConfig, Spiking
from saccade.neurons.temporal import State, StateSpec


@dataclass(frozen=True)
class IntegerConfig(NeuronConfig):
    """``s = floor(clamp(u, 0, D) + 1/2)``, the half rounded up, and ``s / divisor`` is given on. Gradient 1 for 0 < u < D.

    D: the highest level. gain: what the input is multiplied by (None: D, so that levels lie 1/D apart in the input; 1 in
    Spike-driven Transformer v3). divisor: None is D, so that the output lies in [0, 1].
    stateful: ``u = decay * (u - s) + gain * x``; else ``u = gain * x``.
    dynamic: the highest level is ``D + round(D * sigmoid(w . mean x + b))`` for each sample, the mean over steps and places.
    The means are those of the sample alone, never of its batch. It looks at all steps, so it is not causal.
    Source of ``dynamic``: DI-LIF of the event tracker SpikeTrack (2026), from notes; its weights start at zero.
    """

    D: int = 4
    gain: float | None = None
    divisor: float | None = None
    stateful: bool = False
    decay: float = 0.5
    dynamic: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.D <= 1 << 16:
            raise ValueError(f"D, the highest level, must be 1 to 65536, got {self.D}")
        for name in ("gain", "divisor"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be above 0 and finite, got {value}")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay must be in [0, 1], got {self.decay}")

    def build(self, *, channels: int | None = None, channel_axis: int = 2, role: str = "") -> Integer:
        return Integer(self, channels=channels, channel_axis=channel_axis, role=role)

    def after_product(self) -> IntegerConfig:
        """With outputs twice as large, as in the released QSD-Transformer."""
        return replace(self, divisor=self.constants().divisor / 2)

    def constants(self) -> Levels:
        gain = float(self.D) if self.gain is None else self.gain
        divisor = float(self.D) if self.divisor is None else self.divisor
        return Levels(self.decay, gain, float(self.D), divisor, self.stateful)


class Integer(Spiking):
    """Integer neurons, ``[T, N, ...] -> [T, N, ...]`` of ``{0, ..., D} / divisor``.

    Raises ValueError for a dynamic config without channels.
    """

    config: IntegerConfig

    def __init__(
        self, config: IntegerConfig, *, channels: int | None = None, channel_axis: int = 2, role: str = ""
    ) -> None:
        super().__init__(channels=channels, channel_axis=channel_axis, role=role)
        self.config = config
        self.constants = config.constants()
        highest = config.D * (2 if config.dynamic else 1)
        self.levels = tuple(k / self.constants.divisor for k in range(highest + 1))
        self.causal = not config.dynamic
        if config.dynamic:
            if channels is None:
                raise ValueError("levels for each sample are read off its channels, so give their number")
            self.w = nn.Parameter(torch.zeros(channels))
            self.b = nn.Parameter(torch.zeros(()))

    def limits(self, x: Tensor) -> Tensor:
        """The highest level of each sample, ``[N, 1, ...]``: whole numbers from D to 2 D, with the gradient of a rounding."""
        axis = self.channel_axis % x.dim()
        mean = x.mean([a for a in range(x.dim()) if a not in (1, axis)])
        exact = self.config.D * (1 + torch.sigmoid(mean @ self.w.to(x.dtype) + self.b.to(x.dtype)))
        whole = exact + (torch.round(exact) - exact).detach()
        return whole.view(-1, *[1] * (x.dim() - 2))

    def step(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        if self.config.dynamic:
            return self._dynamic(x)
        y, v, u = kernels.integer(x, state, self.constants, record=self.recorded)  # type: ignore[arg-type]
        self.note(u)
        return y, v

    def state_spec(self, shape: tuple[int, ...]) -> StateSpec:
        return {"v": (shape, 32)} if self.config.stateful else {}

    def keep_channels(self, keep: Tensor) -> None:
        super().keep_channels(keep)
        if self.config.dynamic:
            self.w = nn.Parameter(self.w.detach()[keep.to(self.w.device)].clone())

    def _dynamic(self, x: Tensor) -> tuple[Tensor, State]:
        decay, gain, _, divisor, stateful = self.constants
        if self.channels != x.shape[self.channel_axis]:
            raise ValueError(f"{self.channels} channels do not fit axis {self.channel_axis} of {list(x.shape)}")
        dtype = x.dtype
        x = x if dtype == torch.float64 else x.float()
        limits = self.limits(x)
        v = torch.zeros_like(x[0])
        spikes, potentials = [], []
        for current in x.unbind(0):
            u = decay * v + gain * current if stateful else gain * current
            s = level(u, limits)
            v = u - s.detach()
            spikes.append(divided(s, divisor))
            potentials.append(u)
        if self.recorded:
            self.note(torch.stack(potentials))
        return torch.stack(spikes).to(dtype), v if stateful else None


def unroll(y: Tensor, config: IntegerConfig) -> Tensor:
    """The output ``y`` of an integer neuron as binary spikes ``[D, *y.shape]`` of D virtual steps, the first ones firing.

    Their sum is ``y * divisor``, exactly. For layers of weights that is all: the sum over virtual steps of what they make of
    the spikes, divided by ``divisor``, is what they make of y. A product of two such outputs is not the sum of the
    step-wise products; one operand has to be expanded after the other (``expanded_product``).
    """
    counts = torch.round(y * config.constants().divisor)
    steps = torch.arange(config.D, dtype=y.dtype, device=y.device).view(-1, *[1] * y.dim())
    return (counts.unsqueeze(0) > steps).to(y.dtype)


def in_windows(x: Tensor, D: int) -> Tensor:
    """Steps ``[T * D, ...]``, D virtual ones of each step in a row, as ``[D, T, ...]``.

    Raises ValueError for another number of steps.
    """
    if len(x) % D:
        raise ValueError(f"{len(x)} steps are no windows of {D} virtual steps")
    return x.unflatten(0, (len(x) // D, D)).transpose(0, 1)


def in_a_row(x: Tensor) -> Tensor:
    """``[D, T, ...]`` as ``[T * D, ...]``: see ``in_windows``."""
    return x.transpose(0, 1).flatten(0, 1)


class Unrolled(Integer):
    """Integer neurons at inference, in binary spikes: ``[T * D, N, ...] -> [T * D, N, ...]`` of 0 and ``D / divisor``.

    D virtual steps a step. Everything between neurons that is affine (weights, norms, sums of branches, means over places) is
    applied to each virtual step by itself. The neuron takes the mean over a window, rounds it to a level of 0 to D, and fires
    in as many virtual steps of its next window, the first ones. So it reads a whole window before it fires: it does not stream.
    Its gradient is that of the level, in every virtual step. In training mode norms take the statistics of virtual steps, which
    are others than those of their means: this is for inference.
    Raises ValueError for dynamic levels, and for steps that are no whole windows.
    """

    def __init__(self, config: IntegerConfig, **place: Any) -> None:
        if config.dynamic:
            raise ValueError("levels that each sample chooses have no fixed number of virtual steps")
        super().__init__(config, **place)
        self.causal = False
        self.levels = (0.0, config.D / self.constants.divisor)

    def step(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        y, state = super().step(in_windows(x, self.config.D).mean(0), state)
        spikes = unroll(y.detach(), self.config) * self.levels[1]
        return in_a_row(spikes + (y - y.detach())), state  # their mean is y, and so is the mean of their gradients


def integrate_and_fire(u: Tensor, D: int) -> Tensor:
    """Spikes ``[D, *u.shape]`` of an integrate-and-fire neuron with threshold 1 and soft reset that begins at 1/2 and gets the
    whole charge ``u`` in its first virtual step: as many as the level that an integer neuron rounds u to."""
    v = u + 0.5
    spikes = []
    for _ in range(D):
        fired = (v >= 1).to(u.dtype)
        v = v - fired
        spikes.append(fired)
    return torch.stack(spikes)


def expanded_product(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``q (k^T v)`` from binary q and k ``[D, ..., L, d]`` and whole v ``[..., L, d]``: first ``sum_d k_d^T v``, then
    ``sum_d q_d`` of that; additions alone, and exactly the product of the levels."""
    inner = (k.transpose(-1, -2) @ v).sum(0)
    return (q @ inner).sum(0)


NEURONS.register("ie_lif", IntegerConfig())  # Qiu et al. (2025), as released
NEURONS.register("ie_lif_stateful", replace(IntegerConfig(), stateful=True))  # as its paper seems to mean
NEURONS.register("i_lif", IntegerConfig(gain=1.0))  # Yao et al. (2025), Spike-driven Transformer v3
NEURONS.register("di_lif", IntegerConfig(D=6, gain=1.0, dynamic=True))
