"""Networks as anybody would write them, in plain torch: neurons that keep their potential from call to call, and a reset."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StraightSpike(torch.autograd.Function):
    """Heaviside forward; the derivative of an arctangent backward (Fang et al. 2021)."""

    @staticmethod
    def forward(ctx, v: Tensor) -> Tensor:
        ctx.save_for_backward(v)
        return (v >= 0).to(v.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (v,) = ctx.saved_tensors
        return grad / (1 + (torch.pi * v) ** 2)


class MyLIF(nn.Module):
    """``v = v/2 + x/2``, a spike at 1, back to 0; over the first axis, one step after another."""

    def __init__(self) -> None:
        super().__init__()
        self.v: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        spikes = []
        for current in x:
            self.v = self.v + (current - self.v) / 2
            spike = StraightSpike.apply(self.v - 1)
            self.v = self.v * (1 - spike.detach())
            spikes.append(spike)
        return torch.stack(spikes)


class Net(nn.Module):
    """Two convolutions with neurons on ``[T, N, 3, 32, 32]``, and a read-out that is the mean over time."""

    def __init__(self, leaky: bool) -> None:
        super().__init__()
        self.conv1, self.norm1, self.lif1 = nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), MyLIF()
        self.conv2, self.norm2, self.lif2 = nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), MyLIF()
        self.head = nn.Linear(32, 10)
        self.leaky = leaky
        for norm in (self.norm1, self.norm2):
            nn.init.constant_(norm.bias, 1.0)  # so that it fires, untrained

    def forward(self, x: Tensor) -> Tensor:
        T, N = x.shape[:2]
        x = self.norm1(self.conv1(x.flatten(0, 1)))
        x = self.lif1(x.unflatten(0, (T, N)))
        x = self.norm2(self.conv2(x.flatten(0, 1)))
        # the slip: the second neurons get [T*N, ...], so that they go on from one sample to the next
        x = self.lif2(x) if self.leaky else self.lif2(x.unflatten(0, (T, N))).flatten(0, 1)
        return self.head(x.mean((2, 3))).unflatten(0, (T, N)).mean(0)


def make_net() -> Net:
    """As it should be."""
    torch.manual_seed(0)
    return Net(leaky=False)


def make_leaky() -> Net:
    """The same with a slip that published code has made more than once."""
    torch.manual_seed(0)
    return Net(leaky=True)


def reset(net: nn.Module) -> None:
    """Every potential back to rest."""
    for module in net.modules():
        if isinstance(module, MyLIF):
            module.v = 0.0
