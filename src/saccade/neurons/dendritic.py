"""Dendritic compartments: several leaky memories a neuron that turn in pairs, as a scan along tokens and as a neuron in time.

A tridiagonal chain of k compartments with equal leaks and opposite couplings has conjugate pairs of eigenvalues, so in its
eigenbasis it is k/2 damped rotations. They are what is learnt here: ``r = exp(-exp(a)) < 1`` and an angle for each pair, so
that no parameter makes it unstable, with a read-out of k weights. All channels share them.

Source: Chen et al. (2024), PMSN, arXiv 2408.14917, for the compartments, their diagonal form and where they start; used along
tokens as in LRF-Dyn (2026), arXiv 2603.19290, whose equations leave the parametrisation open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from saccade import kernels
from saccade.graph.call import Call
from saccade.graph.rules.registry import counts
from saccade.kernels.dendritic import MOST_PAIRS, by_fourier
from saccade.neurons.spiking import NEURONS, NeuronConfig, Spiking
from saccade.neurons.surrogate import ATan, Surrogate
from saccade.neurons.temporal import State, StateSpec

FORMS = ("scan", "fft")
SLOWEST, FASTEST = -8.0, 4.0  # of log(-log r): r from 0.0000 to 0.9997


class DendriticScan(nn.Module):
    """k compartments along the tokens of ``[B, L, D]``, alike for all channels; see ``kernels.dendritic`` for the equations.

    form: "scan", or "fft" (a convolution with the impulse response, for whole sequences from rest).
    Raises ValueError for an odd or impossible number of compartments, or another form.
    """

    def __init__(self, k: int = 8, form: str = "scan") -> None:
        super().__init__()
        if k < 2 or k % 2 or k > 2 * MOST_PAIRS:
            raise ValueError(f"compartments come in pairs, 2 to {2 * MOST_PAIRS} of them, got {k}")
        if form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
        self.k, self.form = k, form
        pairs = k // 2
        steps = torch.logspace(math.log10(0.2), 0, pairs)
        coupling = torch.cos(math.pi * torch.arange(1, pairs + 1) / (k + 1))
        self.log_rate = nn.Parameter((0.5 * steps).log())
        self.angle = nn.Parameter(0.5 * steps * coupling)
        self.read_out = nn.Parameter(torch.stack((torch.full((pairs,), 1 / pairs), torch.zeros(pairs))))

    def extra_repr(self) -> str:
        return f"k={self.k}, form={self.form!r}"

    def pairs(self) -> Tensor:
        """``[4, k/2]``: real and imaginary part of each pair's turn, its two weights in the read-out."""
        size = torch.exp(-self.log_rate.clamp(SLOWEST, FASTEST).exp())
        return torch.stack((size * self.angle.cos(), size * self.angle.sin(), self.read_out[0], self.read_out[1]))

    def spectral_radius(self) -> float:
        """The largest modulus of an eigenvalue, below 1 whatever the parameters."""
        return float(torch.exp(-self.log_rate.detach().clamp(SLOWEST, FASTEST).exp()).max())

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "fft":
            return by_fourier(x, self.pairs())
        return kernels.dendritic(x, self.pairs())[0]

    def step(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Some tokens ``[B, l, D]`` after others: the output, and the compartments ``[B, k, D]`` for what comes next."""
        y, kept = kernels.dendritic(x, self.pairs(), state, last=True)
        assert kept is not None
        return y, kept


@dataclass(frozen=True)
class DendriticConfig(NeuronConfig):
    """Neurons of k compartments over time that fire where their read-out reaches ``v_th``; no reset."""

    k: int = 8
    v_th: float = 1.0
    surrogate: Surrogate = field(default_factory=lambda: ATan(2.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k < 2 or self.k % 2 or self.k > 2 * MOST_PAIRS:
            raise ValueError(f"k, compartments that come in pairs, must be even, 2 to {2 * MOST_PAIRS}, got {self.k}")
        if not math.isfinite(self.v_th):
            raise ValueError(f"v_th must be finite, got {self.v_th}")

    def build(self, *, channels: int | None = None, channel_axis: int = 2, role: str = "") -> Dendritic:
        return Dendritic(self, channels=channels, channel_axis=channel_axis, role=role)


class Dendritic(Spiking):
    """See ``DendriticConfig``. A stream keeps the k compartments of every neuron."""

    config: DendriticConfig

    def __init__(
        self, config: DendriticConfig, *, channels: int | None = None, channel_axis: int = 2, role: str = ""
    ) -> None:
        super().__init__(channels=channels, channel_axis=channel_axis, role=role)
        self.config = config
        self.scan = DendriticScan(config.k)
        self.theta = nn.Parameter(torch.full((), float(config.v_th)))

    def step(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        shape, k = x.shape[1:], self.config.k
        if state is not None:  # [N, k, ...] to [1, k, N * ...]
            state = state.transpose(0, 1).reshape(1, k, -1)  # type: ignore[union-attr]
        u, kept = self.scan.step(x.reshape(1, len(x), -1), state)
        potentials = u.view(x.shape)
        spikes = kernels.spike(potentials - self.theta.to(u.dtype), self.config.surrogate)
        if self.recorded:
            self.note(potentials)
        return spikes.to(x.dtype), kept.view(k, *shape).transpose(0, 1).contiguous()

    def state_spec(self, shape: tuple[int, ...]) -> StateSpec:
        return {"compartments": ((self.config.k, *shape), 32)}


@counts("saccade::dendritic")
def dendritic_scan(call: Call) -> None:
    """For every token and channel and each of P pairs: four multiplications and three additions to turn and take in, two
    multiplications to read out, and 2 P - 1 additions of what was read."""
    x, pairs = call.args[0], call.args[1].shape[1]
    call.count(mults=6 * pairs * x.numel(), adds=(5 * pairs - 1) * x.numel())


NEURONS.register("dendritic", DendriticConfig())
