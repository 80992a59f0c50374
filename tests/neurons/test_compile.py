"""`torch.compile` sees a layer and a whole model as one graph (captured here, not compiled: that takes a C++ compiler)."""

import copy

import pytest
import torch

from saccade.models import create_model
from saccade.neurons import NEURONS


@pytest.mark.parametrize("name", [name for name, config in NEURONS.items() if getattr(config, "T", 0) is not None])
def test_a_layer_is_one_graph(name):
    torch.compiler.reset()  # it compiles one function only so often
    layer = NEURONS[name].build(channels=3)
    x = torch.randn(4, 2, 3, 5, 5) * 2
    torch.manual_seed(0)  # of neurons with noise
    found = torch.compile(layer, fullgraph=True, backend="eager")(x)
    torch.manual_seed(0)
    assert torch.equal(found, layer(x))


@pytest.mark.parametrize("name", ["syna_resnet18", "sew_resnet18", "ms_resnet18"])
def test_a_model_is_one_graph(name):
    torch.manual_seed(0)
    model = create_model(name, stem="cifar", T=4, widths=(4, 6, 8, 10)).eval()
    x = torch.rand(2, 3, 16, 16)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x, steps=True), model(x, steps=True))


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("syna_resnet18", "sew_resnet18", "resnet20_wide")]


@pytest.mark.parametrize("name", ["ms_resnet18", *SLOW])
def test_a_model_in_training_is_one_graph_forward_and_backward(name):
    """Traced through autograd as well; three batch sizes, so that the third has symbols for shapes."""
    torch.compiler.reset()
    torch.manual_seed(0)
    options = {"stem": "cifar"} if name != "resnet20_wide" else {}
    model = create_model(name, **options, T=4, widths=(4, 6, 8, 10)).train()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for n in (2, 3, 5):
        x = torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(n))
        found = []
        for call in (copy.deepcopy(model), compiled):
            model.zero_grad()
            y = call(x, steps=True)
            y.square().sum().backward()
            owner = model if call is compiled else call
            found.append([y, *(p.grad for p in owner.parameters())])
        for a, b in zip(*found, strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)
