"""A memory-free chain network as integers: what is stored of each layer, and its arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

ALWAYS, NEVER = -(2**62), 2**62  # thresholds of channels that do not depend on their input


@dataclass(frozen=True)
class IntegerLayer:
    """One layer of one-bit inputs and its neurons: ``fires[t] iff sign * H[t] >= thresholds[t]``, all int64.

    ``H[t] = sum_j 2^(order-1-j) * (weight . s[t-j])`` over the lags j < order: the leaky sum with lambda = 1/2, times
    2^(order-1), so that no bit is lost. weight: ``[O, I, kh, kw]`` or ``[O, I]``; sign: ``[O]``, of the scale
    between integers and potentials; thresholds: ``[T, O]``, where norm, biases and theta went.
    pool: side of the windows of its input that are joined by OR first (1: none). options: stride, padding, dilation, groups
    of a convolution. inputs, outputs: shapes of a sample, before pooling and after firing.
    Source: F3 of our sheet; the arithmetic of Wei et al. (2025), QP-SNN, with time in the place of weight bits.
    """

    name: str
    weight: Tensor
    sign: Tensor
    thresholds: Tensor
    order: int
    pool: int
    options: dict[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def pooled(self, spikes: Tensor) -> Tensor:
        """``[..., C, H, W]`` with each window an OR; incomplete ones at the border are left out, as in training."""
        if self.pool == 1:
            return spikes
        k = self.pool
        h, w = spikes.shape[-2] // k * k, spikes.shape[-1] // k * k
        return spikes[..., :h, :w].unflatten(-1, (-1, k)).amax(-1).unflatten(-2, (-1, k)).amax(-2)

    def accumulate(self, x: Tensor) -> Tensor:
        """``weight . x`` of integers ``[N, ...]``, exactly: float64 holds integers below 2^53, which lowering has checked."""
        weight, values = self.weight.double(), x.double()
        if weight.dim() == 2:
            return F.linear(values.flatten(1), weight).long()
        return F.conv2d(values, weight, None, **self.options).long()

    def add_events(self, acc: Tensor, events: Tensor) -> None:
        """Add the weights of single input spikes ``[E, 1 + dims]`` (sample, channel, ...) to ``acc [N, O, ...]``."""
        if self.weight.dim() == 2:
            acc.index_put_((events[:, 0],), self.weight.t()[events[:, 1]], accumulate=True)
            return
        n, c, y, x = events.unbind(1)
        (sy, sx), (py, px), (dy, dx) = (self.options[key] for key in ("stride", "padding", "dilation"))
        size, (height, width) = self.weight.shape[1], acc.shape[-2:]
        per_group = len(self.weight) // self.options["groups"]
        kernels = self.weight.unflatten(0, (-1, per_group))  # [groups, O / groups, I / groups, kh, kw]
        for i in range(self.weight.shape[2]):
            for j in range(self.weight.shape[3]):
                oy, ox = y + py - i * dy, x + px - j * dx
                here = (oy >= 0) & (ox >= 0) & (oy % sy == 0) & (ox % sx == 0)
                oy, ox = oy // sy, ox // sx
                here &= (oy < height) & (ox < width)
                group = c[here] // size
                columns = kernels[group, :, c[here] % size, i, j]  # [E', O / groups]
                outputs = group.unsqueeze(1) * per_group + torch.arange(per_group)
                at = (n[here].unsqueeze(1), outputs, oy[here].unsqueeze(1), ox[here].unsqueeze(1))
                acc.index_put_(at, columns, accumulate=True)

    def fire(self, t: int, mixed: Tensor) -> Tensor:
        """Spikes ``[N, O, ...]`` of step t, uint8, from ``H[t]``."""
        shape = [-1, *[1] * (mixed.dim() - 2)]
        return (self.sign.view(shape) * mixed >= self.thresholds[t].view(shape)).to(torch.uint8)


@dataclass(frozen=True)
class Program:
    """A lowered network: a float64 front that makes the first spikes, integer layers, a float64 read-out.

    ``first(x)``: spikes uint8 ``[T, N, ...]`` of the first neurons, whose inputs are pixels; they are called ``first_name``;
    ``still``: their input is the same at every step.
    ``readout(s)``: logits ``[T, N, K]`` from the spikes of the last layer; ``last``: whether the network's answer is the
    last step or the mean. The schedules of ``saccade.deploy`` map the first spikes to those of every layer, by name.
    """

    T: int
    first: Callable[[Tensor], Tensor]
    first_name: str
    still: bool
    layers: tuple[IntegerLayer, ...]
    readout: Callable[[Tensor], Tensor]
    last: bool

    def logits(self, spikes: dict[str, Tensor]) -> Tensor:
        """The answer ``[N, K]`` from what a schedule returned."""
        steps = self.readout(spikes[self.layers[-1].name].double())
        return steps[-1] if self.last else steps.mean(0)

    def check(self, spikes: Tensor) -> None:
        """Raises ValueError for anything but the first spikes of this program."""
        expected = self.layers[0].inputs
        if spikes.shape[0] != self.T or tuple(spikes.shape[2:]) != expected:
            raise ValueError(
                f"the program takes spikes [{self.T}, N, {', '.join(map(str, expected))}], got {list(spikes.shape)}"
            )
