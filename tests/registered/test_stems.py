"""Every registered stem passes the contract, and shrinks maps as it says."""

import json
from dataclasses import replace

import pytest
import torch
from contract import check_module

from saccade.layers.stems import STEMS, StemConfig
from saccade.neurons import NEURONS

QUICK = replace(NEURONS["lif"], v_th=0.05)  # fires on the currents of fresh convolutions
KINDS = [(name, membrane) for name in STEMS for membrane in (False, True) if not (name == "speds" and membrane)]


def pictures():
    return torch.rand(4, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize(("name", "membrane"), KINDS)
def test_stem(name, membrane):
    def build():
        torch.manual_seed(1)
        return STEMS[name].changed(name, {"membrane": membrane}).build(3, 16, QUICK)

    check_module(build, pictures())
    with torch.no_grad():
        y = build().eval()(pictures())
    assert y.shape == (4, 3, 16, 4, 4)
    whole = torch.equal(y, y.round())
    assert whole != membrane  # spikes and their sums, or currents


@pytest.mark.parametrize("name", STEMS)
def test_stem_config(name):
    config = STEMS[name]
    assert StemConfig.parse(json.loads(json.dumps(config.record()))) == config
    assert config.__doc__
