"""Spiking multiscale attention (SMA), and attention zoneout (AZO), a noise of training that replaces what it attends to least.

Source: Shan et al. (2025), Advancing Spiking Neural Networks for Spatio-temporal Processing, AAAI, arXiv 2405.13672, with its
released code. The body of the paper was not public to us; its formula for the scales has ReLU where two of the three scripts
have neurons, and both are here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from saccade.config import Config, Registry
from saccade.layers.norms import BatchNorm2d
from saccade.layers.weighted import Conv2d, Linear
from saccade.neurons import NEURONS, NeuronConfig

SMAS: Registry[SMAConfig] = Registry("multiscale attention")
BRANCHES = ("both", "channel")


@dataclass(frozen=True)
class SMAConfig(Config):
    """Settings of ``SMA``.

    kernels: sides of the convolutions, odd numbers, one a scale. c_reduction, t_reduction: by how much the layer between the
    two of the channels' and the steps' weights is narrower (int(T / t_reduction), at least 1). neuron: behind the norm of every
    scale; None: ReLU. branches: "both", or "channel" (SMA-C; our reading: the channels' weights alone). shared: the channels'
    weights are those of the mean over time, the same in all steps (SMA-L). depthwise: each channel by itself, our option: C =
    512 takes 22.4 million weights otherwise.
    zoneout: (RCR, RTR) of ``azo``: in training, C // RCR channels of T // RTR steps are replaced; None: none are.
    """

    registry: ClassVar[Registry[SMAConfig]] = SMAS

    kernels: tuple[int, ...] = (1, 3, 5, 7)
    c_reduction: int = 4
    t_reduction: float = 4
    neuron: NeuronConfig | None = None
    branches: str = "both"
    shared: bool = False
    depthwise: bool = False
    zoneout: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.kernels or min(self.kernels) < 1 or any(k % 2 == 0 for k in self.kernels):
            raise ValueError(f"kernels are odd numbers from 1, got {self.kernels}")
        if self.branches not in BRANCHES:
            raise ValueError(f"branches must be one of {', '.join(BRANCHES)}, got {self.branches!r}")
        if self.c_reduction < 1 or not self.t_reduction >= 1:
            raise ValueError(f"reductions are 1 or more, got {self.c_reduction} and {self.t_reduction}")
        if self.zoneout is not None and min(self.zoneout) < 1:
            raise ValueError(f"zoneout is (RCR, RTR), numbers from 1, got {self.zoneout}")

    def build(self, channels: int, T: int) -> SMA:
        return SMA(self, channels, T)


class SMA(nn.Module):
    """Weighs n scales of a map against each other, for every step and channel: ``[T, N, C, H, W] -> [T, N, C, H, W]``, real::

        M_n = act(BN_n(conv_n(x)))                                  n convolutions C -> C, with bias
        y = mean over places of sum_n M_n                           [T, N, C]
        Wc = softmax over n of W_n relu(W y)                        C -> C / c_reduction -> n C, step by step
        Wt = softmax over n of V_n relu(V mean_C y)                 T -> T / t_reduction -> n T
        z = sum_n Wt_n Wc_n M_n

    It reads currents, so its convolutions multiply. The weights of steps look at the whole sequence, so SMA is not causal and
    is built for T steps; with ``branches="channel"`` (and not ``shared``) it is causal and takes any. ``zoneout`` acts in
    training.

    Raises ValueError for fewer channels than c_reduction, and for another number of steps than it was built for.
    """

    causal: bool = True
    fixed_T: int | None = None

    def __init__(self, config: SMAConfig, channels: int, T: int) -> None:
        super().__init__()
        if channels < config.c_reduction:
            raise ValueError(f"c_reduction {config.c_reduction} needs at least as many channels, got {channels}")
        self.config = config
        groups = channels if config.depthwise else 1
        self.scales = nn.ModuleList(
            nn.Sequential(
                Conv2d(channels, channels, k, padding=k // 2, groups=groups),
                BatchNorm2d(channels),
                nn.ReLU() if config.neuron is None else config.neuron.build(channels=channels),
            )
            for k in config.kernels
        )
        n, hidden = len(config.kernels), channels // config.c_reduction
        self.channel_weights = nn.Sequential(Linear(channels, hidden), nn.ReLU(), Linear(hidden, n * channels))
        self.step_weights: nn.Module | None = None
        self.causal = not config.shared
        if config.branches == "both":
            steps = max(int(T // config.t_reduction), 1)
            self.step_weights = nn.Sequential(nn.Linear(T, steps), nn.ReLU(), nn.Linear(steps, n * T))
            self.causal, self.fixed_T = False, T

    def extra_repr(self) -> str:
        return repr(self.config)

    def weights(self, maps: list[Tensor]) -> tuple[Tensor | None, Tensor]:
        """Of the scales: of steps ``[n, T, N]`` (None with "channel" alone) and of channels ``[n, T, N, C]``; each sums to 1
        over n."""
        n = len(maps)
        y = sum(maps[1:], maps[0]).mean((-2, -1))
        seen = y.mean(0, keepdim=True).expand_as(y) if self.config.shared else y
        by_channel = self.channel_weights(seen).unflatten(-1, (n, -1)).movedim(-2, 0).softmax(0)
        if self.step_weights is None:
            return None, by_channel
        if len(y) != self.fixed_T:
            raise ValueError(f"SMA built for T = {self.fixed_T} got a sequence of T = {len(y)}")
        by_step = self.step_weights(y.mean(-1).t()).unflatten(-1, (n, -1))  # [N, n, T]
        return by_step.permute(1, 2, 0).softmax(0), by_channel

    def forward(self, x: Tensor) -> Tensor:
        maps = [scale(x) for scale in self.scales]
        by_step, by_channel = self.weights(maps)
        both = by_channel if by_step is None else by_channel * by_step.unsqueeze(-1)
        weighed = [w[..., None, None] * m for w, m in zip(both, maps, strict=True)]
        if self.training and self.config.zoneout is not None:
            points = zoneout_points(by_step, by_channel, *self.config.zoneout)
            weighed = [azo(z, p) for z, p in zip(weighed, points, strict=True)]
        return sum(weighed[1:], weighed[0])


def zoneout_points(by_step: Tensor | None, by_channel: Tensor, rcr: int, rtr: int) -> Tensor:
    """Which (scale, step, channel) attend least, bool ``[n, T, C]``: of the T // RTR steps with the least weight, the C // RCR
    channels with the least.

    Weights are summed over the batch, as published: in training, what is replaced in a sample depends on the others. Without
    weights of steps those of all channels together stand for them (ours). Step 0 is chosen among, and never replaced.
    """
    n, T, _, C = by_channel.shape
    total = by_channel.detach().sum(2)  # [n, T, C]
    steps = total.sum(-1) if by_step is None else by_step.detach().sum(2)  # [n, T]
    points = torch.zeros(n, T, C, dtype=torch.bool, device=total.device)
    if rtr > T or rcr > C:
        return points
    late = steps.topk(T // rtr, 1, largest=False).indices  # [n, n_T]
    chosen = torch.zeros_like(steps, dtype=torch.bool).scatter_(1, late, True)
    by_chosen = (total * chosen.unsqueeze(-1)).sum(1)  # [n, C]
    channels = torch.zeros_like(by_chosen, dtype=torch.bool)
    channels.scatter_(1, by_chosen.topk(C // rcr, 1, largest=False).indices, True)
    points |= chosen.unsqueeze(-1) & channels.unsqueeze(1)
    points[:, 0] = False
    return points


def azo(z: Tensor, points: Tensor) -> Tensor:
    """Attention zoneout: at ``points [T, C]`` the values of ``z [T, N, C, H, W]`` are those of the step before, as they were.

    The gradient of a replaced value goes to the step before. Two selected steps in a row do not chain: the released loop writes
    in place and does; the released tensor form, with which it was trained, does not.
    """
    before = torch.cat([z[:1], z[:-1]])
    return torch.where(points[:, None, :, None, None], before, z)


def scale_weights(model: nn.Module, x: Tensor) -> dict[str, tuple[Tensor | None, Tensor]]:
    """What the multiscale attentions of a model give their scales on ``x``, by path: see ``SMA.weights``."""
    found: dict[str, tuple[Tensor | None, Tensor]] = {}
    paths = {module: path for path, module in model.named_modules() if isinstance(module, SMA)}

    def note(module: nn.Module, args: tuple[Tensor, ...], result: Tensor) -> None:
        assert isinstance(module, SMA)
        found[paths[module]] = module.weights([scale(args[0]) for scale in module.scales])

    handles = [module.register_forward_hook(note) for module in paths]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    return found


SMAS.register("sma", SMAConfig(neuron=NEURONS["lif"]))
SMAS.register("sma_relu", SMAConfig())
SMAS.register("sma_c", SMAConfig(neuron=NEURONS["lif"], branches="channel"))
SMAS.register("sma_l", SMAConfig(neuron=NEURONS["lif"], shared=True))
