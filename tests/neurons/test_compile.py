"""`torch.compile` sees a layer and a whole model as one graph (captured here, not compiled: that takes a C++ compiler)."""

import pytest
import torch

from saccade.models import create_model
from saccade.neurons import PRESETS, neuron


@pytest.mark.parametrize("name", PRESETS)
def test_a_layer_is_one_graph(name):
    layer = neuron(name)
    x = torch.randn(4, 2, 3, 5, 5) * 2
    assert torch.equal(torch.compile(layer, fullgraph=True, backend="eager")(x), layer(x))


@pytest.mark.parametrize("name", ["syna_resnet18", "sew_resnet18", "ms_resnet18"])
def test_a_model_is_one_graph(name):
    torch.manual_seed(0)
    model = create_model(name, stem="cifar", T=4, widths=(4, 6, 8, 10)).eval()
    x = torch.rand(2, 3, 16, 16)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x, steps=True), model(x, steps=True))
