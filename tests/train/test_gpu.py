"""What only a GPU can show (select with -m gpu)."""

import pytest
import torch

from saccade.experiment import run
from saccade.neurons import NEURONS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("name", [name for name, config in NEURONS.items() if getattr(config, "T", 0) is not None])
def test_neurons_spike_as_on_the_cpu(name):
    x = torch.randn(8, 4, 6, 5, 5) * 1.5
    layer = NEURONS[name].build(channels=6).eval()  # noise of training is drawn on the device
    spikes = layer(x)
    assert spikes.mean() > 0.02
    apart = layer.cuda()(x.cuda()).cpu() != spikes
    # a scan adds in another order there, and so does the mean of a sample by which di_lif rounds
    assert apart.double().mean() <= (1e-3 if hasattr(layer, "scan") else 1e-2 if name == "di_lif" else 0)


@pytest.mark.parametrize("precision", ["32-true", "16-mixed", "bf16-mixed"])
def test_training_runs_and_resumes(tmp_path, make_recipe, precision):
    recipe = make_recipe(train__accelerator="cuda", train__precision=precision, train__epochs=3)
    summary = run(recipe, tmp_path / "run", quiet=True)
    assert summary["test_total"] == 100
    assert run(recipe, tmp_path / "run", resume=True, quiet=True)["confusion"] == summary["confusion"]


@pytest.mark.parametrize("D", [3, 5, 255])
def test_integer_neurons_give_their_levels(D):
    """CUDA divides by a number through its reciprocal, which rounds to other values."""
    layer = NEURONS["ie_lif"].__class__(D=D).build(channels=6).cuda()
    y = layer(torch.rand(1, 4, 6, 50, 50, device="cuda")).cpu()
    assert torch.isin(y, torch.tensor(layer.levels)).all()
    assert len(y.unique()) == D + 1
