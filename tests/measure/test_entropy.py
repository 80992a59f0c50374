"""Entropy of levels: by hand, on Gaussian input as known, of queries, keys and values."""

import itertools
import math

import pytest
import torch
from small_models import narrow
from torch import nn

from saccade.measure import level_entropy
from saccade.neurons import NEURONS, IntegerConfig, LIFConfig
from saccade.transforms import unroll
from saccade.verify import wake


def gaussian(T=1):
    x = torch.randn(1, 200_000, generator=torch.Generator().manual_seed(0))
    return x.expand(T, -1).unsqueeze(-1)


def entropy(config, T=1, over_time=False):
    layer = nn.Sequential(config.build()).eval()
    return level_entropy(layer, [gaussian(T)], ["0"], over_time=over_time)["0"]


def test_by_hand():
    layer = nn.Sequential(IntegerConfig(D=2).build()).eval()
    x = torch.tensor([0.0, 0.0, 0.5, 1.0]).view(1, 4, 1)
    found = level_entropy(layer, [x, x], ["0"])["0"]
    assert found.counts == {0.0: 4, 0.5: 2, 1.0: 2}
    assert found.bits == pytest.approx(1.5)
    assert found.mean == pytest.approx(0.375)


# input N(0, 1): what P(x >= threshold) says; the LIF of tau 2 with decayed input fires in one step from x = 2
def tail(x):
    return 0.5 * math.erfc(x / math.sqrt(2))


def binary(p):
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def test_of_gaussian_input():
    spikformer = NEURONS["spikformer"]
    assert isinstance(spikformer, LIFConfig)
    found = entropy(spikformer)
    assert found.mean == pytest.approx(tail(2), abs=2e-3)
    assert found.bits == pytest.approx(binary(tail(2)), abs=5e-3)
    one = entropy(IntegerConfig(D=1))
    assert one.mean == pytest.approx(tail(0.5), abs=5e-3)
    assert one.bits == pytest.approx(binary(tail(0.5)), abs=5e-3)
    at = [tail(-math.inf), *(tail((k - 0.5) / 4) for k in range(1, 5)), 0.0]
    shares = [a - b for a, b in itertools.pairwise(at)]
    four = entropy(IntegerConfig(D=4))
    assert four.bits == pytest.approx(-sum(p * math.log2(p) for p in shares), abs=5e-3)
    assert four.bits > one.bits > entropy(spikformer, 4, over_time=True).bits > found.bits


def test_queries_keys_and_values_say_more_with_more_levels():
    bits = []
    for D in (1, 4):
        model, x = narrow("qsd_small", neuron={"name": "ie_lif", "config": {"D": D}})
        wake(model, x)
        found = level_entropy(model.eval(), [x])
        assert [path.rsplit(".", 1)[1] for path in found] == ["q", "k", "v"] * 2
        bits.append(sum(one.bits for one in found.values()) / len(found))
        assert all(one.bits <= math.log2(D + 1) for one in found.values())
    assert bits[1] > bits[0] > 0


def test_unrolled_spikes_say_the_same_over_their_window():
    model, x = narrow("qsd_small", T=1)
    model, x = model.double(), x.double()
    wake(model, x)
    levels = level_entropy(model.eval(), [x[0]])
    windows = level_entropy(unroll(model, x[0]).model, [x[0]], over_time=True)
    for path, one in levels.items():
        assert list(one.counts.values()) == list(windows[path].counts.values())


def test_refusals():
    layer = nn.Sequential(nn.Linear(4, 4))
    x = torch.rand(2, 2000, 4)
    with pytest.raises(ValueError, match="call model.eval()"):
        level_entropy(layer, [x], ["0"])
    layer.eval()
    with pytest.raises(ValueError, match="Sequential has no attention; name the layers"):
        level_entropy(layer, [x])
    with pytest.raises(ValueError, match="0 gives more than 4096 different values"):
        level_entropy(layer, [x], ["0"])
    with pytest.raises(ValueError, match="there are no images"):
        level_entropy(layer, [], ["0"])
