"""The network of ``generated_c.py``: a chain that every generator of C takes, trained on digits; the same each time."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from saccade.data import DATA_SETS
from saccade.layers import AvgPool2d, Conv2d, Linear
from saccade.neurons import LIFConfig
from saccade.transforms import QuantizeConfig, apply

T, SIDE, LEVELS = 4, 32, 16  # steps; pixels of a side; the largest level of a pixel, which fits a byte with a sign
CHANNELS, CLASSES = (1, 16, 32), 10
NEURON = LIFConfig(tau=math.inf, decay_input=False)
WIDTHS = {  # trained with weights of few bits; the first and the last layer have 8
    "8": {"conv1": 8, "conv2": 8, "head": 8},
    "4": {"conv1": 8, "conv2": 4, "head": 8},
    "1": {"conv1": 8, "conv2": 1, "head": 8},
}


class Chain(nn.Module):
    """Twice a convolution 3x3 with bias, IF neurons and the mean of 2x2; then a linear layer. The picture stands still."""

    T = T

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.if1 = Conv2d(CHANNELS[0], CHANNELS[1], 3, padding=1), NEURON.build()
        self.conv2, self.if2 = Conv2d(CHANNELS[1], CHANNELS[2], 3, padding=1), NEURON.build()
        self.pool = AvgPool2d(2)
        self.head = Linear(CHANNELS[2] * (SIDE // 4) ** 2, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.if1(self.conv1(x[None]).expand(self.T, -1, -1, -1, -1)))
        return self.head(self.pool(self.if2(self.conv2(x))).flatten(2))


def pictures(split: str) -> tuple[Tensor, Tensor]:
    """Digits of 8x8 pixels drawn four times as large, in whole levels from 0 to 16, as floats; and their classes."""
    data = getattr(DATA_SETS["digits"].read(None), split)
    x, y, *_ = data.__getitems__(list(range(len(data))))
    return (interpolate(x.float() * LEVELS / 255, size=(SIDE, SIDE), mode="bilinear").round(), y)


def train(model: nn.Module, epochs: int, rate: float) -> nn.Module:
    x, y = pictures("train")
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            cross_entropy(model(x[rows] / LEVELS).mean(0), y[rows]).backward()
            optimizer.step()
    return model.eval()


def trained() -> Chain:
    torch.manual_seed(0)
    model = Chain()
    train(model, 6, 2e-3)
    return model


def with_width(model: Chain, width: str) -> Chain:
    """The trained network, trained on with weights of a width."""
    own = copy.deepcopy(model)
    for layer, bits in WIDTHS[width].items():
        others = tuple(other for other in WIDTHS[width] if other != layer)
        config = QuantizeConfig("binary", 1) if bits == 1 else QuantizeConfig("lsq", bits, steps="channel")
        apply(own, replace(config, skip=others))
    train(own, 4, 1e-3)
    return own
