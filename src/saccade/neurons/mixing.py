"""Memory-free neurons: no stored potential and no reset, but a causal mixing of the input steps, then a threshold.

``H = A X`` over time, ``S[t] = 1[H[t] >= theta_t]``: the whole sequence is mixed by one product with the ``[T, T]`` matrix A.
What a step needs of the past is its inputs, which in a layer of one-bit inputs are bits (see ``saccade.deploy``). One class
for each mixing; all start at ``A_ij = decay^(i-j)`` for j <= i.

Source: reconstructed from the abstract of MFP-QSNN (2025), arXiv 2503.00040, whose body is not public, with the masked and
sliding parallel spiking neurons of Fang et al. (2023), eq. 8-12.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from saccade import kernels
from saccade.neurons.spiking import NeuronConfig, Spiking
from saccade.neurons.surrogate import ATan, Surrogate
from saccade.neurons.temporal import State, StateSpec


@dataclass(frozen=True)
class MixingConfig(NeuronConfig):
    """What the mixings share.

    decay: where A starts. learn: whether the mixing learns (the threshold always does); only a mixing that stays at powers of
    two runs in integers. v_th: where the threshold theta starts.
    """

    decay: float = 0.5
    learn: bool = True
    v_th: float = 1.0
    surrogate: Surrogate = field(default_factory=lambda: ATan(2.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay must be in [0, 1], got {self.decay}")
        if not math.isfinite(self.v_th):
            raise ValueError(f"v_th must be finite, got {self.v_th}")

    def fitted(self, T: int | None, gate: str | None) -> MixingConfig:
        """These settings for a model of T steps (None: any), of which ``gate`` is the path of a neuron that gates (None: none).

        Raises ValueError where such a model cannot have this mixing.
        """
        return self


class Mixing(Spiking):
    """Base of the mixing neurons. ``mixing(T)``: the lower-triangular A, ``[T, T]``."""

    theta: nn.Parameter

    def __init__(self, config: MixingConfig, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.config: MixingConfig = config

    def mixing(self, T: int) -> Tensor:
        raise NotImplementedError

    def integer_order(self, T: int) -> int:
        """How many steps of history weigh in, by 1, 1/2, 1/4, ..., over sequences of T steps.

        Raises ValueError, saying what to train instead, for a mixing that is no such row of powers of two.
        """
        raise NotImplementedError

    def whole(self, x: Tensor) -> Tensor:
        return self._mix(x, self.mixing(len(x)))

    def _mix(self, x: Tensor, weights: Tensor) -> Tensor:
        spikes, potentials = kernels.mix(x, weights, self.theta, self.config.surrogate, record=self.recorded)
        self.note(potentials)
        return spikes


@dataclass(frozen=True)
class LeakMixingConfig(MixingConfig):
    """``A_ij = lambda^(i-j)``. per: one lambda for the "layer", or one for each "channel"."""

    per: str = "layer"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.per not in ("layer", "channel"):
            raise ValueError(f"per must be one of layer, channel, got {self.per!r}")
        if self.learn and not 0 < self.decay < 1:
            raise ValueError(f"a decay that learns must start inside (0, 1), got {self.decay}")

    def fitted(self, T: int | None, gate: str | None) -> MixingConfig:
        if self.per == "channel" and gate is not None:
            raise ValueError(f"{gate} is a gate over other axes, so leaks for each channel do not fit; use per='layer'")
        return self

    def build(self, *, channels: int | None = None, channel_axis: int = 2, role: str = "") -> LeakMixing:
        return LeakMixing(self, channels=channels, channel_axis=channel_axis, role=role)


class LeakMixing(Mixing):
    """Runs as the recursion ``H[t] = lambda H[t-1] + x[t]`` in the fused kernel of ``LIF``, which equals the product and
    costs T instead of T^2 operations a neuron; a stream keeps H.

    Raises ValueError for a lambda by channel without ``channels``.
    """

    config: LeakMixingConfig

    def __init__(
        self,
        config: LeakMixingConfig | None = None,
        *,
        channels: int | None = None,
        channel_axis: int = 2,
        role: str = "",
    ) -> None:
        config = config or LeakMixingConfig()
        super().__init__(config, channels=channels, channel_axis=channel_axis, role=role)
        if config.per == "channel" and channels is None:
            raise ValueError("a leak for each channel needs the number of channels")
        self.theta = nn.Parameter(torch.full((), float(config.v_th)))
        if config.learn:
            rho = math.log(config.decay / (1 - config.decay))
            shape = (channels,) if config.per == "channel" and channels is not None else ()
            self.rho = nn.Parameter(torch.full(shape, rho))

    def decay(self) -> float | Tensor:
        """lambda: a number, or a tensor ``[]`` or ``[C]``."""
        return torch.sigmoid(self.rho) if self.config.learn else self.config.decay

    def mixing(self, T: int) -> Tensor:
        """A: ``[T, T]``, or ``[C, T, T]`` with a lambda for each channel."""
        lags = _lags(T, T, self.theta.device)
        decay = torch.as_tensor(self.decay(), dtype=self.theta.dtype, device=lags.device)
        return torch.where(lags >= 0, decay.unsqueeze(-1).unsqueeze(-1) ** lags.clamp(min=0), 0.0)

    def integer_order(self, T: int) -> int:
        decay = torch.as_tensor(self.decay()).detach()
        if not bool((decay == 0.5).all()):
            range_ = f"{decay.min():.4g} to {decay.max():.4g}" if decay.numel() > 1 else f"{float(decay):.4g}"
            raise ValueError(f"lambda is {range_}; integers need 1/2: train with learn=False, decay=0.5")
        return T

    def state_spec(self, shape: tuple[int, ...]) -> StateSpec:
        return {"h": (shape, 32)}

    def keep_channels(self, keep: Tensor) -> None:
        super().keep_channels(keep)
        if self.config.per == "channel" and self.config.learn:
            self.rho = nn.Parameter(self.rho.detach()[keep.to(self.rho.device)].clone())

    def step(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        return self._recursion(x, state, last=True)

    def whole(self, x: Tensor) -> Tensor:
        return self._recursion(x, None, last=False)[0]

    def _recursion(self, x: Tensor, state: State, last: bool) -> tuple[Tensor, State]:
        decay = self.decay()
        if isinstance(decay, Tensor) and decay.dim() == 1:
            decay = self.by_channel(decay, x)
        spikes, state, potentials = kernels.lif(
            x,
            state,  # type: ignore[arg-type]
            decay=decay,
            gain=1.0,
            v_th=self.theta,
            reset="none",
            surrogate=self.config.surrogate,
            last=last,
            record=self.recorded,
        )
        self.note(potentials)
        return spikes, state


@dataclass(frozen=True)
class MaskedMixingConfig(MixingConfig):
    """Any lower-triangular A, for sequences of ``T`` steps only; theta is one a step."""

    T: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.T is not None and self.T < 1:
            raise ValueError(f"T must be a whole number of steps, at least 1, got {self.T}")

    def fitted(self, T: int | None, gate: str | None) -> MixingConfig:
        if self.T is None and T is None:
            raise ValueError("masked mixing is for one number of steps: give T")
        if self.T is not None and T not in (None, self.T):
            raise ValueError(f"masked mixing of T = {self.T} steps does not fit a model of T = {T}")
        if gate is not None:
            raise ValueError(
                f"{gate} is a gate that may fire in a single step, so masked mixing does not fit; use leak or sliding"
            )
        return replace(self, T=self.T or T)

    def build(self, *, channels: int | None = None, channel_axis: int = 2, role: str = "") -> MaskedMixing:
        return MaskedMixing(self, channels=channels, channel_axis=channel_axis, role=role)


class MaskedMixing(Mixing):
    """Takes whole sequences of one T, so it has no state and no stream.

    Raises ValueError for a config without T, and for a sequence of another T.
    """

    config: MaskedMixingConfig

    def __init__(
        self, config: MaskedMixingConfig, *, channels: int | None = None, channel_axis: int = 2, role: str = ""
    ) -> None:
        super().__init__(config, channels=channels, channel_axis=channel_axis, role=role)
        if config.T is None:
            raise ValueError("masked mixing is for one number of steps: give T")
        self.fixed_T: int = config.T
        self.theta = nn.Parameter(torch.full((config.T,), float(config.v_th)))
        if config.learn:
            rows, columns = torch.tril_indices(
                config.T, config.T
            )  # one axis: what is above the diagonal is no parameter
            self.entries = nn.Parameter(_powers(config.decay, rows - columns))

    def mixing(self, T: int) -> Tensor:
        if self.fixed_T != T:
            raise ValueError(f"a masked memory-free neuron built for T = {self.fixed_T} got a sequence of T = {T}")
        if not self.config.learn:
            lags = _lags(T, T, self.theta.device)
            return torch.where(lags >= 0, _powers(self.config.decay, lags.clamp(min=0), self.theta.dtype), 0.0)
        rows, columns = torch.tril_indices(T, T, device=self.theta.device)
        return self.entries.new_zeros(T, T).index_put((rows, columns), self.entries)

    def integer_order(self, T: int) -> int:
        raise ValueError("a masked mixing is no row of powers of two; train with mode 'leak' and learn=False")

    def state_spec(self, shape: tuple[int, ...]) -> StateSpec:
        return {}

    def step(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        if state is not None:
            raise ValueError(f"masked mixing of T = {self.fixed_T} steps takes whole sequences, not chunks")
        return self.whole(x), None


@dataclass(frozen=True)
class SlidingMixingConfig(MixingConfig):
    """A Toeplitz A of the last ``order`` steps."""

    order: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order < 1:
            raise ValueError(f"order must be a whole number of steps, at least 1, got {self.order}")

    def build(self, *, channels: int | None = None, channel_axis: int = 2, role: str = "") -> SlidingMixing:
        return SlidingMixing(self, channels=channels, channel_axis=channel_axis, role=role)


class SlidingMixing(Mixing):
    """A stream keeps its last ``order - 1`` inputs."""

    config: SlidingMixingConfig

    def __init__(
        self,
        config: SlidingMixingConfig | None = None,
        *,
        channels: int | None = None,
        channel_axis: int = 2,
        role: str = "",
    ) -> None:
        config = config or SlidingMixingConfig()
        super().__init__(config, channels=channels, channel_axis=channel_axis, role=role)
        self.theta = nn.Parameter(torch.full((), float(config.v_th)))
        if config.learn:
            self.taps = nn.Parameter(_powers(config.decay, torch.arange(config.order)))  # by lag

    def mixing(self, T: int) -> Tensor:
        return self._banded(_lags(T, T, self.theta.device))

    def integer_order(self, T: int) -> int:
        order = self.config.order
        taps = self.mixing(order)[-1].flip(0).detach()
        if not torch.equal(taps, 0.5 ** torch.arange(order, dtype=taps.dtype)):
            raise ValueError("the taps have moved from 1, 1/2, 1/4, ...; train with learn=False, decay=0.5")
        return min(order, T)

    def state_spec(self, shape: tuple[int, ...]) -> StateSpec:
        return {"inputs": ((self.config.order - 1, *shape), 32)} if self.config.order > 1 else {}

    def step(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        kept = self.config.order - 1
        before = x.new_zeros(kept, *x.shape[1:]) if state is None else state.transpose(0, 1)  # type: ignore[union-attr]
        x = torch.cat([before, x])
        spikes = self._mix(x, self._banded(_lags(len(x) - kept, len(x), x.device)))
        return spikes, x[len(x) - kept :].transpose(
            0, 1
        ).contiguous() if kept else None  # samples first, as a Stream expects

    def _banded(self, lags: Tensor) -> Tensor:
        """The Toeplitz matrix of the taps, for the lags of its rows and columns."""
        order = self.config.order
        powers = _powers(self.config.decay, torch.arange(order), self.theta.dtype).to(lags.device)
        taps = self.taps if self.config.learn else powers
        return torch.where((lags >= 0) & (lags < order), taps[lags.clamp(0, order - 1)], 0.0)


def _lags(rows: int, columns: int, device: torch.device) -> Tensor:
    """How many steps before output i input j lies, ``[rows, columns]``; the last of both is the same step."""
    i = torch.arange(columns - rows, columns, device=device)
    return i.unsqueeze(1) - torch.arange(columns, device=device)


def _powers(decay: float, lags: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.as_tensor(decay, dtype=torch.float64, device=lags.device).pow(lags).to(dtype)
