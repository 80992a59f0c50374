"""The networks of ``inference.py``: a chain of three convolutions with weights of a width and spikes of a rate, and twins."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from saccade.layers import BatchNorm2d, Conv2d, Linear, MaxPool2d
from saccade.neurons import LIFConfig
from saccade.transforms import QuantizeConfig, SubBitConfig, apply

T = 4
CHANNELS = (3, 64, 128, 256)
CLASSES = 10
NEURON = LIFConfig(tau=2.0, decay_input=False)
WIDTHS = {  # bits of a weight of the second and third convolution; the first and the last layer have 8
    "8": QuantizeConfig("rescaw", 8, skip=("conv1", "head")),
    "4": QuantizeConfig("rescaw", 4, skip=("conv1", "head")),
    "2": QuantizeConfig("rescaw", 2, skip=("conv1", "head")),
    "1": QuantizeConfig("binary", 1, skip=("conv1", "head")),
    "0.44": SubBitConfig(eta=4, skip=("conv1", "head")),
}


class Chain(nn.Module):
    """Three convolutions 3x3 with norm and LIF, maximum pooling after two; the picture stands still. Gives steps ``[T, N, K]``.

    Only ``[T N, C, H, W]`` is convolved, as fast spiking code does; what stands still is convolved once.
    """

    T = T

    def __init__(self) -> None:
        super().__init__()
        for i, (a, b) in enumerate(pairwise(CHANNELS), 1):
            self.add_module(f"conv{i}", Conv2d(a, b, 3, padding=1, bias=False))
            self.add_module(f"norm{i}", BatchNorm2d(b))
            self.add_module(f"lif{i}", NEURON.build())
        self.pool = MaxPool2d(2)
        self.head = Linear(CHANNELS[-1], CLASSES)

    def drive(self, i: int, x: Tensor) -> Tensor:
        return self.get_submodule(f"norm{i}")(self.get_submodule(f"conv{i}")(x))

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.lif1(self.drive(1, x[None]).expand(self.T, -1, -1, -1, -1)))
        x = self.pool(self.lif2(self.drive(2, x)))
        return self.head(self.lif3(self.drive(3, x)).mean((-2, -1)))


def chain(width: str, rate: float, pixels: Tensor) -> Chain:
    """The chain with weights of a width, whose second and third convolutions see spikes of a rate on the pixels (0 to 255).

    Norms are set so that drives have mean 0 and deviation 1 in each channel; then one offset a layer is found by bisection.
    """
    torch.manual_seed(0)
    model = Chain()
    apply(model, WIDTHS[width])
    for name in ("conv1", "head"):
        apply(
            model, QuantizeConfig("rescaw", 8, skip=("conv2", "conv3") + (("head",) if name == "conv1" else ("conv1",)))
        )
    model.eval()
    x = pixels / 255
    with torch.no_grad():
        shown = x[None]
        for i in (1, 2, 3):
            conv, norm = model.get_submodule(f"conv{i}"), model.get_submodule(f"norm{i}")
            y = conv(shown)
            norm.running_mean.copy_(y.mean((0, 1, 3, 4)))
            norm.running_var.copy_(y.var((0, 1, 3, 4)))
            low, high = -8.0, 8.0
            for _ in range(30):
                norm.bias.fill_((low + high) / 2)
                drive = norm(y)
                spikes = model.get_submodule(f"lif{i}")(drive.expand(T, -1, -1, -1, -1) if i == 1 else drive)
                seen = model.pool(spikes) if i < 3 else spikes
                low, high = (low, (low + high) / 2) if seen.mean() > rate else ((low + high) / 2, high)
            shown = seen
    return model


class Twin(nn.Module):
    """The same layers with ReLUs, in one pass."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise(CHANNELS), 1):
            layers += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
            if i < 3:
                layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(CHANNELS[-1], CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x).mean((-2, -1)))
