"""Training memory: by hand on a net small enough, and what the options change."""

import pytest
import torch
from torch import nn

from saccade.layers import set_spike_packing
from saccade.measure import training_memory
from saccade.models import create_model
from saccade.neurons import LIF


def test_bytes_by_hand():
    """A linear layer keeps its input, a neuron the linear layer's output, each once."""
    model = nn.Sequential(nn.Linear(100, 50, bias=False), LIF(), nn.Linear(50, 10))
    found = training_memory(model, torch.rand(4, 8, 100))
    steps = 4 * 8
    assert found.samples == 8
    assert found.kept_by_layer == {
        "0": steps * 100 * 4,
        "1": steps * 50 * 4,
        "2": steps * 50 * 4,
        "(model)": steps * 10 * 4,
    }
    assert found.parameters_bytes == found.gradients_bytes == (100 * 50 + 50 * 10 + 10) * 4
    assert found.peak_bytes >= found.kept_bytes - steps * 100 * 4


def test_leaves_the_model_as_it_was():
    model = create_model("or_resnet18_small", T=2).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    training_memory(model, torch.rand(2, 3, 32, 32))
    assert not model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_packing_shows():
    model = create_model("or_resnet18_small", T=4)
    x = torch.rand(8, 3, 32, 32)
    packed = training_memory(model, x)
    set_spike_packing(model, False)
    whole = training_memory(model, x)
    conv = "blocks.1.backbone.0"
    assert whole.kept_by_layer[conv] == 4 * 8 * 16 * 32 * 32 * 4
    assert packed.kept_by_layer[conv] == 4 * 8 * 16 * 32 * 32 // 8
    assert packed.peak_bytes < whole.peak_bytes
    assert packed.to_json()["format"] == "saccade-memory-1"


def test_no_gradient_no_memory():
    with pytest.raises(ValueError, match="output has no gradient"):
        training_memory(nn.Linear(3, 3).requires_grad_(False), torch.rand(2, 2, 3))
