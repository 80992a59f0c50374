"""Gates over a whole sequence as whole numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from saccade.deploy import compare, lower
from saccade.deploy.operations.gates import Sigmoid
from saccade.files import load_model
from saccade.layers import BatchNorm2d, ChannelGate, Conv2d, SpatialGate, SynAGate, TimeGate
from saccade.neurons import LIFConfig

CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "digits.safetensors"
LIF = LIFConfig(tau=2.0, v_th=0.2)


def gated(gate, T, still):
    """Conv - norm - gates - neuron, and random pixels whose spikes are neither all nor none."""
    torch.manual_seed(2)
    layers = [Conv2d(2, 8, 3, padding=1), BatchNorm2d(8), SynAGate(gate), LIFConfig(v_th=0.01).build(), nn.Flatten(2)]
    model = nn.Sequential(*layers).eval()
    x = torch.randint(256, (T, 3, 2, 6, 6), generator=torch.Generator().manual_seed(1)).float()
    if still:
        x = x[:1].expand(T, -1, -1, -1, -1).contiguous()
    return model, x


@pytest.mark.parametrize("still", [False, True])
@pytest.mark.parametrize("neuron", [None, LIF], ids=["analog", "spiking"])
@pytest.mark.parametrize("dims", ["T", "C", "S", "TCS"])
def test_gates_of_every_kind(dims, neuron, still):
    make = {
        "T": lambda: TimeGate(6, 2, neuron, 0.3),
        "C": lambda: ChannelGate(8, 2, neuron, 0.4),
        "S": lambda: SpatialGate(3, neuron, 0.4),
    }
    torch.manual_seed(5)
    model, x = gated([make[dim]() for dim in dims], 6, still)
    program = lower(model, x / 255)
    found = compare(program, model, x)
    assert found.mismatches == 0
    assert len(found.seen) == (1 if neuron is None else 1 + len(dims))
    for path, spikes in program.spikes(x.numpy()).items():
        assert 0.01 < spikes.mean() < 0.99 or path.startswith("2."), path
    with pytest.raises(
        ValueError, match="looks at all steps of a sequence, so the program cannot be streamed; use run"
    ):
        program.stream()(x.numpy()[:2])


def test_the_sigmoid_of_whole_numbers():
    x = np.linspace(-20, 20, 200001)
    whole = np.rint(x * 2**20).astype(np.int64)
    found = Sigmoid((0,)).compute(whole)
    assert np.abs(found / 2**24 - 1 / (1 + np.exp(-whole / 2**20))).max() < 2**-22
    assert (np.diff(found) >= 0).all()
    assert np.array_equal(found + found[::-1], np.full_like(found, 2**24))


def test_the_network_that_comes_along():
    """The digits of scikit-learn, upsampled as when it was trained."""
    datasets = pytest.importorskip("sklearn.datasets", reason="the digits need scikit-learn")
    model = load_model(CHECKPOINT).eval()
    digits = torch.from_numpy(datasets.load_digits().images[:40] / 16 * 255).float().round()[:, None]
    pixels = nn.functional.interpolate(digits, size=(28, 28)).round()
    program = lower(model, pixels / 255)
    found = compare(program, model, pixels)
    assert found.mismatches == 0
    assert found.levels > 1e6
    assert (found.program.argmax(1) == found.model.argmax(1)).all()
