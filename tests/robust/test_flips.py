"""Flipped spikes, counted by hand."""

import pytest
import torch
from torch import nn

from saccade.neurons import LIFConfig
from saccade.robust.statistics import flip_rate


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.neuron = LIFConfig(tau=1.0).build()

    def forward(self, x):
        return self.neuron(x.expand(2, *x.shape)).mean(0)


def test_flips_are_counted_by_layer():
    x = torch.tensor([[0.2, 1.4, 0.9, 3.0]])
    moved = torch.tensor([[0.2, 1.4, 1.1, 3.0]])
    assert flip_rate(Two(), x, x) == {"neuron": 0.0}
    assert flip_rate(Two(), x, moved) == {"neuron": 0.25}
    with pytest.raises(ValueError, match="differ in shape"):
        flip_rate(Two(), x, moved[:, :3])
