"""The leaky integrate-and-fire neuron and, by its arguments, all its relatives."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from saccade import kernels
from saccade.kernels.lif import RESETS
from saccade.neurons.spiking import Spiking
from saccade.neurons.surrogate import ATan, Surrogate


@dataclass(frozen=True)
class LIFConfig:
    """Every choice in which the LIF neurons of the literature differ.

    tau: membrane time constant in steps; ``inf`` does not leak (IF neuron); 1 forgets at once.
    decay_input: True: ``u = v + (x - (v - v_rest)) / tau``; False: ``u = v_rest + (1 - 1/tau)(v - v_rest) + x``.
    learn_tau: 1/tau = sigmoid(w) with a learnable w per layer. Source: PLIF, Fang et al. (2021) eq. 7.
    v_th: threshold (fires at ``u >= v_th``), one number or one per channel; v_rest, v_reset: resting and reset potential.
    reset: "hard" (to v_reset), "soft" (subtract v_th) or "none". detach_reset: no gradient through the reset.
    channel_axis: the axis of ``[T, N, ...]`` that per-channel thresholds lie on (tokens ``[T, N, L, D]`` have it at 3).
    """

    tau: float = 2.0
    decay_input: bool = True
    learn_tau: bool = False
    v_th: float | tuple[float, ...] = 1.0
    v_rest: float = 0.0
    v_reset: float = 0.0
    reset: str = "hard"
    detach_reset: bool = True
    surrogate: Surrogate = field(default_factory=ATan)
    channel_axis: int = 2

    def __post_init__(self) -> None:
        if not self.tau >= 1:
            raise ValueError(f"tau must be at least 1 step, got {self.tau}")
        if self.decay_input and math.isinf(self.tau):
            raise ValueError("an infinite tau with decay_input would ignore its input; set decay_input=False")
        if self.learn_tau and not 1 < self.tau < math.inf:
            raise ValueError(f"a learnable tau must start above 1 and be finite, got {self.tau}")
        if self.reset not in RESETS:
            raise ValueError(f"reset must be one of {', '.join(RESETS)}, got {self.reset!r}")


class LIF(Spiking):
    """Leaky integrate-and-fire neurons, ``[T, N, ...] -> [T, N, ...]`` of zeros and ones.

    ``LIF(tau=2.0, v_th=1.0, ...)`` takes the fields of ``LIFConfig``, or a whole one as ``config``. ``role`` marks a
    neuron as a "gate" or a "shortcut" for reports. ``run`` gives everything; ``forward`` and ``step`` just the spikes.
    """

    def __init__(self, config: LIFConfig | None = None, *, role: str = "", **fields: object) -> None:
        super().__init__(role)
        if config is not None and fields:
            raise ValueError("give either a config or its fields")
        self.config = config or LIFConfig(**fields)  # type: ignore[arg-type]
        if self.config.learn_tau:
            self.w = nn.Parameter(torch.tensor(-math.log(self.config.tau - 1)))
        if isinstance(self.config.v_th, tuple):
            self.register_buffer("v_th", torch.tensor(self.config.v_th))

    def extra_repr(self) -> str:
        return repr(self.config) + (f", role={self.role!r}" if self.role else "")

    def tau(self) -> float:
        """The present time constant in steps."""
        return float(1 / torch.sigmoid(self.w.detach())) if self.config.learn_tau else self.config.tau

    def run(
        self, x: Tensor, state: Tensor | None = None, *, last: bool = True, record: bool = False
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Spikes ``[T, N, ...]``; if ``last`` the last potential ``[N, ...]``; if ``record`` the potentials before reset."""
        c = self.config
        rate: float | Tensor = torch.sigmoid(self.w) if c.learn_tau else 1 / c.tau
        v_th: float | Tensor = c.v_th if isinstance(c.v_th, float | int) else self._channel_thresholds(x)
        return kernels.lif(
            x,
            state,
            decay=1 - rate,
            gain=rate if c.decay_input else 1.0,
            v_th=v_th,
            v_rest=c.v_rest,
            v_reset=c.v_reset,
            reset=c.reset,
            detach_reset=c.detach_reset,
            surrogate=c.surrogate,
            last=last,
            record=record,
        )

    def step(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        return self._run(x, state, last=True)

    def whole(self, x: Tensor) -> Tensor:
        return self._run(x, None, last=False)[0]

    def _run(self, x: Tensor, state: Tensor | None, last: bool) -> tuple[Tensor, Tensor | None]:
        spikes, state, potentials = self.run(x, state, last=last, record=self.recorded)
        self.note(potentials)
        return spikes, state

    def _channel_thresholds(self, x: Tensor) -> Tensor:
        v_th = self.get_buffer("v_th")
        axis = self.config.channel_axis
        if x.dim() <= axis or x.shape[axis] != len(v_th):
            raise ValueError(f"{len(v_th)} thresholds do not fit axis {axis} of an input {list(x.shape)}")
        return v_th.view([-1] + [1] * (x.dim() - axis - 1)).to(x.dtype if x.dtype == torch.float64 else torch.float32)
