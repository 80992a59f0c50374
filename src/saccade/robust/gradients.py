"""Other gradients for the same spikes: what an attacker may choose, whatever a network was trained with.

``backward(model, mode)`` changes how gradients pass neurons while it is open, and no spike. Modes act on LIF neurons of ours,
on noisy ones where the noise is off; a surrogate of one's choice on all kinds of them, and on SpikingJelly's and snnTorch's.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from saccade.graph.declared import peer_levels
from saccade.neurons import LIF, Surrogate

MODES = ("bptt", "bptr", "rga", "hart", "pdsg", "assg", "conversion")
ASSG_AREA, RGA_SLOPE, HART_WIDTH = 0.87, 0.2, 0.5


@contextlib.contextmanager
def backward(model: nn.Module, mode: str = "bptt", surrogate: Surrogate | None = None) -> Iterator[None]:
    """Gradients by a rule of one's choice.

    bptt: through time, with ``surrogate`` (None: those of training). bptr: as it comes, where a neuron fired at all, Ding et
    al. (2022), RAT. rga: by a line in the mean input, Bu et al. (2023). hart: the mean over steps, no time between them, Hao et
    al. (2024). pdsg: normal densities as wide as potentials spread, which depends on the batch, CVPR 2025. assg: arctangents
    whose slope follows the potentials of each neuron over the iterations of an attack, arXiv 2512.22522. conversion: spikes
    become the ReLU of their input; the one mode that changes answers, which therefore only serve gradients.

    Raises ValueError for an unknown mode, and for a model none of whose neurons the mode acts on.
    """
    if mode not in MODES:
        raise ValueError(f"a gradient mode is one of {', '.join(MODES)}, got {mode!r}")
    if surrogate is not None and mode != "bptt":
        raise ValueError(f"a surrogate goes with the mode bptt, got {mode}")
    if mode == "bptt" and surrogate is None:
        yield
        return
    own, peers = _neurons(model, mode)
    if not own and not peers:
        raise ValueError(f"the mode {mode} acts on LIF neurons, and the model has none")
    with contextlib.ExitStack() as stack:
        for neuron in own:
            if surrogate is not None:
                stack.enter_context(_set(neuron, "_config", replace(neuron._config, surrogate=surrogate)))
            else:
                stack.enter_context(_set(neuron, "forward", _Passing(neuron, mode)))
        if surrogate is not None:
            fire = _Fire(surrogate)
            for peer in peers:
                for name in ("surrogate_function", "spike_grad"):
                    if hasattr(peer, name):
                        stack.enter_context(_set(peer, name, fire))
        yield


def acts_on(model: nn.Module, mode: str) -> bool:
    """Whether a model has neurons that ``backward`` with this mode changes."""
    return any(_neurons(model, mode))


def _neurons(model: nn.Module, mode: str) -> tuple[list[LIF], list[nn.Module]]:
    own = [m for m in model.modules() if isinstance(m, LIF) and (mode == "bptt" or m.integrates_alone)]
    return own, [model.get_submodule(path) for path in peer_levels(model)] if mode == "bptt" else []


@contextlib.contextmanager
def _set(thing: Any, name: str, value: Any) -> Iterator[None]:
    missing = object()
    before = vars(thing).get(name, missing)
    inner = thing._modules.pop(name, missing) if isinstance(thing, nn.Module) else missing
    object.__setattr__(thing, name, value)
    try:
        yield
    finally:
        if before is missing:
            object.__delattr__(thing, name)
        else:
            object.__setattr__(thing, name, before)
        if inner is not missing:
            thing._modules[name] = inner


class _Fire:
    """A firing step of another framework, with a surrogate of ours."""

    def __init__(self, surrogate: Surrogate) -> None:
        self.surrogate = surrogate

    def __call__(self, distance: Tensor) -> Tensor:
        soft = self.surrogate.primitive(distance)
        return soft + ((distance >= 0).to(distance.dtype) - soft).detach()


class _Passing:
    """Stands in for a neuron's forward: its own spikes, another way back."""

    def __init__(self, neuron: LIF, mode: str) -> None:
        self.neuron, self.mode = neuron, mode
        self.size: Tensor | None = None  # of assg: running means of |u - v_th| and of how far it lies from that mean
        self.spread: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.mode == "conversion":
            return torch.relu(x)
        with torch.no_grad():
            spikes, _, potentials = self.neuron.run(x.detach(), last=False, record=True)
            assert potentials is not None
        neuron = self.neuron
        c, rate = neuron._config, 1 / neuron.tau()
        v_th: Any = c.v_th
        if neuron._buffers["v_th"] is not None:
            v_th = neuron.by_channel(neuron.get_buffer("v_th"), x)
        distance = (potentials - v_th).to(x.dtype)
        gain = rate if c.decay_input else 1.0
        if self.mode == "bptr":
            factor = (spikes.mean(0, keepdim=True) > 0).to(x.dtype).expand_as(x)
            return _Weighted.apply(x, spikes, factor)  # type: ignore[no-any-return]
        if self.mode == "rga":
            return _Weighted.apply(
                x, spikes, _rga((x.detach() * gain / v_th).mean(0, keepdim=True), 1 - rate).expand_as(x)
            )  # type: ignore[no-any-return]
        if self.mode == "hart":
            width = HART_WIDTH
            slope = ((width - distance.abs()).clamp(min=0) / width**2).mean(0, keepdim=True) * gain
            return _Weighted.apply(x, spikes, slope, True)  # type: ignore[no-any-return]
        slopes = self._spread_slopes(distance) if self.mode == "pdsg" else self._followed_slopes(distance)
        return _Through.apply(x, spikes, potentials.to(x.dtype), slopes, (1 - rate, gain, v_th, c))  # type: ignore[no-any-return]

    def _spread_slopes(self, distance: Tensor) -> Tensor:
        """Normal densities around half a standard deviation, of a channel over the steps so far and the batch."""
        T, axis = len(distance), self.neuron.channel_axis % distance.dim()
        others = [a for a in range(1, distance.dim()) if a != axis]
        count = math.prod(distance.shape[a] for a in others)
        steps = torch.arange(1, T + 1, device=distance.device, dtype=distance.dtype).view(
            -1, *[1] * (distance.dim() - 1)
        )
        mean = distance.sum(others, keepdim=True).cumsum(0) / (steps * count)
        square = distance.square().sum(others, keepdim=True).cumsum(0) / (steps * count)
        sigma = (square - mean.square()).clamp(min=1e-12).sqrt()
        return torch.exp(-((distance - 0.5 * sigma) / sigma).square() / 2) / (sigma * math.sqrt(2 * math.pi))

    def _followed_slopes(self, distance: Tensor) -> Tensor:
        """Arctangents of the slope ``omega / (M + 1.5 D)``, omega so that the share ASSG_AREA of their area lies within it."""
        size = distance.abs()
        if self.size is None or self.size.shape != size.shape:  # another batch, or samples that are broken and gone
            self.size, self.spread = torch.ones_like(size), torch.zeros_like(size)
        assert self.spread is not None
        self.size = 0.9 * self.size + 0.1 * size
        self.spread = 0.9 * self.spread + 0.1 * (size - self.size).abs()
        alpha = omega(ASSG_AREA) / (self.size + 1.5 * self.spread + 1e-4)
        return alpha / 2 / (1 + (math.pi / 2 * alpha * distance).square())


def omega(area: float) -> float:
    """``alpha |d|`` within which the share ``area`` of an arctangent's derivative lies: ``2 tan(pi area / 2) / pi``."""
    return 2 * math.tan(math.pi * area / 2) / math.pi


def _rga(mean: Tensor, decay: float) -> Tensor:
    """Rate by mean input, a line in pieces; of a neuron with threshold 1."""
    slope = RGA_SLOPE
    steep = (1 - slope + slope * decay) / (decay + 1)
    middle = torch.where((mean > 1 - decay) & (mean <= 2), steep, 0.0)
    return torch.where((mean >= 0) & (mean <= 1 - decay), slope, middle).to(mean.dtype)


class _Weighted(torch.autograd.Function):
    """Spikes; their gradient, or its mean over steps, times a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, spikes: Tensor, factor: Tensor, mean: bool = False) -> Tensor:
        ctx.save_for_backward(factor)
        ctx.mean = mean
        return spikes.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        (factor,) = ctx.saved_tensors
        found = grad.mean(0, keepdim=True) * factor if ctx.mean else grad * factor
        return found.expand_as(grad), None, None, None


class _Through(torch.autograd.Function):
    """Spikes of a LIF; backpropagation through time with a slope for every neuron and step."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, spikes: Tensor, potentials: Tensor, slopes: Tensor, constants: Any) -> Tensor:
        ctx.save_for_backward(spikes, potentials, slopes)
        ctx.constants = constants
        return spikes.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        spikes, potentials, slopes = ctx.saved_tensors
        decay, gain, v_th, c = ctx.constants
        found = torch.empty_like(grad)
        kept = torch.zeros_like(grad[0])  # by the potential after the reset
        for t in reversed(range(len(grad))):
            by_spike = grad[t]
            if c.reset != "none" and not c.detach_reset:
                by_spike = by_spike + kept * ((c.v_reset - potentials[t]) if c.reset == "hard" else -v_th)
            by_potential = kept * (1 - spikes[t]) if c.reset == "hard" else kept
            by_potential = by_potential + by_spike * slopes[t]
            found[t] = gain * by_potential
            kept = decay * by_potential
        return found, None, None, None, None
