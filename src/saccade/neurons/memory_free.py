"""Neurons without a stored potential: causal mixing of their input steps, then a threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saccade import kernels
from saccade.neurons.spiking import Spiking
from saccade.neurons.surrogate import ATan, Surrogate

MODES = ("leak", "masked", "sliding")
PER = ("layer", "channel")


@dataclass(frozen=True)
class MemoryFreeConfig:
    """Every choice of a memory-free neuron: ``H = A X`` over time, ``S[t] = 1[H[t] >= theta_t]``.

    mode: "leak": ``A_ij = lambda^(i-j)`` for j <= i; "masked": any lower-triangular A, for sequences of ``T`` steps only;
    "sliding": a Toeplitz A of the last ``order`` steps. All start at ``A_ij = decay^(i-j)``.
    learn: whether the mixing learns (the threshold always does). Only a mixing that stays at powers of two runs in integers.
    per: "layer", or, of "leak", a lambda for each "channel" on ``channel_axis`` of ``[T, N, ...]``.
    T: of "masked". order: of "sliding". v_th: where theta starts; one a layer, of "masked" one a step.
    surrogate: None takes that of the replaced neuron, or ``ATan(2)``.
    """

    mode: str = "leak"
    decay: float = 0.5
    learn: bool = True
    per: str = "layer"
    T: int | None = None
    order: int = 4
    v_th: float = 1.0
    surrogate: Surrogate | None = None
    channel_axis: int = 2

    def __post_init__(self) -> None:
        for name, known in (("mode", MODES), ("per", PER)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if self.per == "channel" and self.mode != "leak":
            raise ValueError(f"per='channel' is for mode='leak'; {self.mode} mixes a whole layer alike")
        if not 0 <= self.decay <= 1 or (self.learn and self.mode == "leak" and not 0 < self.decay < 1):
            raise ValueError(f"decay must be in [0, 1], and inside it to be learned, got {self.decay}")
        if not isinstance(self.order, int) or self.order < 1:
            raise ValueError(f"order must be a whole number of steps, at least 1, got {self.order}")
        if self.T is not None and (not isinstance(self.T, int) or self.T < 1):
            raise ValueError(f"T must be a whole number of steps, at least 1, got {self.T}")
        if not math.isfinite(self.v_th):
            raise ValueError(f"v_th must be finite, got {self.v_th}")


class MemoryFree(Spiking):
    """A layer of memory-free neurons, ``[T, N, ...] -> [T, N, ...]`` of zeros and ones; causal.

    Nothing is reset and no potential is needed from one step to the next: the whole sequence is mixed by one product with
    the ``[T, T]`` matrix A, and the history that a step needs is its inputs, which in a layer of one-bit inputs are bits
    (see ``saccade.deploy``). ``step`` streams: "leak" keeps H, "sliding" its last ``order - 1`` inputs; "masked" has a
    ``fixed_T``. "leak" runs as the recursion ``H[t] = lambda H[t-1] + x[t]`` in the fused kernel of ``LIF``, which equals
    the product and costs T instead of T^2 operations a neuron.

    Raises ValueError for a "masked" config without T or "channel" without ``channels``, and for a sequence of another T.
    Source: reconstructed from the abstract of MFP-QSNN (2025), arXiv 2503.00040, whose body is not public, with the masked
    and sliding parallel spiking neurons of Fang et al. (2023), eq. 8-12.
    """

    def __init__(self, config: MemoryFreeConfig | None = None, *, channels: int | None = None, role: str = "") -> None:
        super().__init__(role)
        self.config = c = config or MemoryFreeConfig()
        self.surrogate = c.surrogate or ATan(2.0)
        if c.mode == "masked":
            if c.T is None:
                raise ValueError("masked mixing is for one number of steps: give T")
            self.fixed_T = c.T
        if c.per == "channel" and channels is None:
            raise ValueError("a leak for each channel needs the number of channels")
        self.channels = channels if c.per == "channel" else None
        self.theta = nn.Parameter(torch.full((c.T,) if c.mode == "masked" and c.T else (), float(c.v_th)))
        if c.learn and c.mode == "leak":
            rho = math.log(c.decay / (1 - c.decay))
            self.rho = nn.Parameter(torch.full(() if self.channels is None else (self.channels,), rho))
        elif c.learn and c.mode == "masked" and c.T:
            rows, columns = torch.tril_indices(c.T, c.T)  # one axis: what is above the diagonal is no parameter
            self.entries = nn.Parameter(_powers(c.decay, rows - columns))
        elif c.learn:
            self.taps = nn.Parameter(_powers(c.decay, torch.arange(c.order)))  # by lag

    def extra_repr(self) -> str:
        return repr(self.config) + (f", role={self.role!r}" if self.role else "")

    def decay(self) -> float | Tensor:
        """lambda of "leak": a number, or a tensor ``[]`` or ``[C]``."""
        return torch.sigmoid(self.rho) if self.config.learn else self.config.decay

    def keep_channels(self, keep: Tensor) -> None:
        """Follow a layer that loses channels: of leaks for each channel those of ``keep`` stay."""
        if self.channels is not None:
            self.channels = len(keep)
            if self.config.learn:
                self.rho = nn.Parameter(self.rho.detach()[keep.to(self.rho.device)].clone())

    def mixing(self, T: int) -> Tensor:
        """A, lower-triangular: ``[T, T]``, or ``[C, T, T]`` with a lambda for each channel."""
        c = self.config
        lags = _lags(T, T, self.theta.device)
        if c.mode == "leak":
            decay = torch.as_tensor(self.decay(), dtype=self.theta.dtype, device=lags.device)
            return torch.where(lags >= 0, decay.unsqueeze(-1).unsqueeze(-1) ** lags.clamp(min=0), 0.0)
        if c.mode == "sliding":
            return self._banded(lags)
        assert c.T is not None
        self._check_T(T)
        if not c.learn:
            return torch.where(lags >= 0, _powers(c.decay, lags.clamp(min=0), self.theta.dtype), 0.0)
        rows, columns = torch.tril_indices(T, T, device=lags.device)
        return self.entries.new_zeros(T, T).index_put((rows, columns), self.entries)

    def step(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        mode = self.config.mode
        if mode == "leak":
            return self._recursion(x, state, last=True)
        if mode == "masked":
            if state is not None:
                raise ValueError(f"masked mixing of T = {self.fixed_T} steps takes whole sequences, not chunks")
            return self.whole(x), None
        k = self.config.order
        before = x.new_zeros(k - 1, *x.shape[1:]) if state is None else state.transpose(0, 1)
        x = torch.cat([before, x])
        spikes = self._mix(x, self._banded(_lags(len(x) - k + 1, len(x), x.device)))
        return spikes, x[len(x) - k + 1 :].transpose(0, 1).contiguous()  # samples first, as a Stream expects

    def whole(self, x: Tensor) -> Tensor:
        if self.config.mode == "leak":
            return self._recursion(x, None, last=False)[0]
        return self._mix(x, self.mixing(len(x)))

    def _mix(self, x: Tensor, weights: Tensor) -> Tensor:
        spikes, potentials = kernels.mix(x, weights, self.theta, self.surrogate, record=self.recorded)
        self.note(potentials)
        return spikes

    def _recursion(self, x: Tensor, state: Tensor | None, last: bool) -> tuple[Tensor, Tensor | None]:
        decay = self.decay()
        if isinstance(decay, Tensor) and self.channels is not None:
            axis = self.config.channel_axis
            if x.dim() <= axis or x.shape[axis] != self.channels:
                raise ValueError(
                    f"leaks of {self.channels} channels do not fit axis {axis} of an input {list(x.shape)}"
                )
            decay = decay.view([-1] + [1] * (x.dim() - axis - 1))
        spikes, state, potentials = kernels.lif(
            x,
            state,
            decay=decay,
            gain=1.0,
            v_th=self.theta,
            reset="none",
            surrogate=self.surrogate,
            last=last,
            record=self.recorded,
        )
        self.note(potentials)
        return spikes, state

    def _banded(self, lags: Tensor) -> Tensor:
        """The Toeplitz matrix of the taps, for the lags of its rows and columns."""
        c = self.config
        taps = self.taps if c.learn else _powers(c.decay, torch.arange(c.order), self.theta.dtype).to(lags.device)
        inside = (lags >= 0) & (lags < c.order)
        return torch.where(inside, taps[lags.clamp(0, c.order - 1)], 0.0)

    def _check_T(self, T: int) -> None:
        if self.fixed_T != T:
            raise ValueError(f"a masked memory-free neuron built for T = {self.fixed_T} got a sequence of T = {T}")


def _lags(rows: int, columns: int, device: torch.device) -> Tensor:
    """How many steps before output i input j lies, ``[rows, columns]``; the last of both is the same step."""
    i = torch.arange(columns - rows, columns, device=device)
    return i.unsqueeze(1) - torch.arange(columns, device=device)


def _powers(decay: float, lags: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.as_tensor(decay, dtype=torch.float64, device=lags.device).pow(lags).to(dtype)
