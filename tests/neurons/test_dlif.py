"""DLIF against a plain loop, and against the LIF that it starts as."""

import pytest
import torch

from saccade.neurons import NEURONS, LIFConfig, Stream
from saccade.neurons.dlif import DLIFConfig


def test_it_is_the_loop_with_a_weight_a_step():
    x = torch.randn(5, 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.4
    neuron = DLIFConfig(T=5).build().double()
    neuron.p.data = torch.tensor([1.0, 0.5, -0.3, 2.0, 0.9], dtype=torch.float64)
    v, expected = torch.zeros(3, 8, dtype=torch.float64), []
    for t, current in enumerate(x):
        u = (1 - 1 / 100) * v + neuron.p.detach()[t] * current
        s = (u >= 1).double()
        v = (1 - s) * u
        expected.append(s)
    spikes = neuron(x)
    assert torch.equal(spikes, torch.stack(expected))
    assert 0.1 < spikes.detach().mean() < 0.9
    spikes.sum().backward()
    assert (neuron.p.grad != 0).all()


def test_it_starts_as_its_lif():
    x = torch.randn(4, 2, 6, generator=torch.Generator().manual_seed(1)) * 2
    lif = LIFConfig(tau=2.0, v_th=0.7)
    assert torch.equal(DLIFConfig(4, lif).build()(x), lif.build()(x))


def test_another_number_of_steps_is_refused():
    with pytest.raises(ValueError, match="give it the model's T"):
        NEURONS["dlif"].build()
    with pytest.raises(ValueError, match="at least 1"):
        DLIFConfig(T=0)
    neuron = DLIFConfig(T=3).build()
    with pytest.raises(ValueError, match="built for T = 3 got a sequence of T = 2"):
        neuron(torch.zeros(2, 1, 1))
    with pytest.raises(ValueError):  # noqa: PT011
        Stream(neuron)(torch.zeros(3, 1, 1))
