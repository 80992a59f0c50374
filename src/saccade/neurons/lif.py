"""The leaky integrate-and-fire neuron and, by its arguments, all its relatives."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from saccade import kernels
from saccade.kernels.operator import RESETS
from saccade.neurons.spiking import NeuronConfig, Spiking
from saccade.neurons.surrogate import ATan, Surrogate
from saccade.neurons.temporal import State, StateSpec


@dataclass(frozen=True)
class LIFConfig(NeuronConfig):
    """Every choice in which the LIF neurons of the literature differ.

    tau: membrane time constant in steps; ``inf`` does not leak (IF neuron); 1 forgets at once.
    decay_input: True: ``u = v + (x - (v - v_rest)) / tau``; False: ``u = v_rest + (1 - 1/tau)(v - v_rest) + x``.
    learn_tau: 1/tau = sigmoid(w) with a learnable w per layer. Source: PLIF, Fang et al. (2021) eq. 7.
    v_th: threshold (fires at ``u >= v_th``), one number or one per channel; v_rest, v_reset: resting and reset potential.
    reset: "hard" (to v_reset), "soft" (subtract v_th) or "none". detach_reset: no gradient through the reset.
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tau >= 1:
            raise ValueError(f"tau must be at least 1 step, got {self.tau}")
        if self.decay_input and math.isinf(self.tau):
            raise ValueError("an infinite tau with decay_input would ignore its input; set decay_input=False")
        if self.learn_tau and not 1 < self.tau < math.inf:
            raise ValueError(f"a learnable tau must start above 1 and be finite, got {self.tau}")
        if self.reset not in RESETS:
            raise ValueError(f"reset must be one of {', '.join(RESETS)}, got {self.reset!r}")

    def build(self, *, channels: int | None = None, channel_axis: int = 2, role: str = "") -> LIF:
        return LIF(self, channels=channels, channel_axis=channel_axis, role=role)

    def after_product(self) -> LIFConfig:
        """At half the threshold, as in every released transformer of spikes since Zhou et al. (2023), Spikformer."""
        halved = self.v_th / 2 if isinstance(self.v_th, float) else tuple(value / 2 for value in self.v_th)
        return replace(self, v_th=halved)


class LIF(Spiking):
    """Leaky integrate-and-fire neurons, ``[T, N, ...] -> [T, N, ...]`` of zeros and ones.

    ``LIF(tau=2.0, v_th=1.0, ...)`` takes the fields of ``LIFConfig``, or a whole one as ``config``. ``run`` gives everything;
    ``forward`` and ``step`` just the spikes. A threshold for each channel is a buffer ``v_th``, and ``config`` reads it there.
    """

    def __init__(
        self,
        config: LIFConfig | None = None,
        *,
        channels: int | None = None,
        channel_axis: int = 2,
        role: str = "",
        **fields: object,
    ) -> None:
        super().__init__(channels=channels, channel_axis=channel_axis, role=role)
        if config is not None and fields:
            raise ValueError("give either a config or its fields")
        self._config = config = config or LIFConfig(**fields)  # type: ignore[arg-type]
        if config.learn_tau:
            self.w = nn.Parameter(torch.tensor(-math.log(config.tau - 1)))
        self.register_buffer("v_th", None)
        if isinstance(config.v_th, tuple):
            self.set_thresholds(torch.tensor(config.v_th))

    @property
    def config(self) -> LIFConfig:  # type: ignore[override]
        """The settings, with the thresholds as they are now."""
        thresholds = self.get_buffer("v_th") if self._buffers["v_th"] is not None else None
        if thresholds is None:
            return self._config
        return replace(self._config, v_th=tuple(thresholds.tolist()))

    @property
    def integrates_alone(self) -> bool:
        """Whether ``run`` is charge, threshold and reset and nothing besides, so that another way back can stand in for it."""
        return type(self) is LIF

    def set_thresholds(self, thresholds: Tensor) -> None:
        """Fire at a threshold for each channel, ``[C]``. Raises ValueError for another number of channels than the layer
        has.
        """
        if thresholds.dim() != 1 or self.channels not in (None, len(thresholds)):
            have = "channels" if self.channels is None else f"{self.channels} channels"
            raise ValueError(f"thresholds {list(thresholds.shape)} are not one for each of the layer's {have}")
        self.channels = len(thresholds)
        self.register_buffer("v_th", thresholds.detach().clone())
        self._config = replace(self._config, v_th=1.0)  # they stand in the buffer alone

    def tau(self) -> float:
        """The present time constant in steps."""
        return float(1 / torch.sigmoid(self.w.detach())) if self._config.learn_tau else self._config.tau

    def run(
        self, x: Tensor, state: State = None, *, last: bool = True, record: bool = False
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Spikes ``[T, N, ...]``; if ``last`` the last potential ``[N, ...]``; if ``record`` the potentials before reset."""
        c = self._config
        rate: float | Tensor = torch.sigmoid(self.w) if c.learn_tau else 1 / c.tau
        v_th: float | Tensor = c.v_th  # type: ignore[assignment]
        if self._buffers["v_th"] is not None:
            v_th = self.by_channel(self.get_buffer("v_th"), x)
            v_th = v_th.to(x.dtype if x.dtype == torch.float64 else torch.float32)
        return kernels.lif(
            x,
            state,  # type: ignore[arg-type]
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

    def step(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        return self._run(x, state, last=True)

    def whole(self, x: Tensor) -> Tensor:
        return self._run(x, None, last=False)[0]

    def state_spec(self, shape: tuple[int, ...]) -> StateSpec:
        return {"v": (shape, 32)}

    def keep_channels(self, keep: Tensor) -> None:
        super().keep_channels(keep)
        thresholds = self._buffers["v_th"]
        if thresholds is not None:
            self.set_thresholds(thresholds[keep.to(thresholds.device)])

    def _run(self, x: Tensor, state: State, last: bool) -> tuple[Tensor, State]:
        spikes, state, potentials = self.run(x, state, last=last, record=self.recorded)
        self.note(potentials)
        return spikes, state
