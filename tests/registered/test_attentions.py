"""Every registered attention passes the contract, and is what it says of itself: its cost, its values, its causality."""

import json
from dataclasses import replace

import pytest
import torch
from contract import check_compiled, check_module
from torch import nn

from saccade.layers.attention import ATTENTIONS, AttentionConfig, Site
from saccade.measure import profile
from saccade.neurons import NEURONS

T, SAMPLES, C, HEADS, SIDE = 4, 3, 8, 2, 4
QUICK = replace(NEURONS["lif"], v_th=0.2)  # fires on the currents of fresh projections


def spikes(channels=C, side=SIDE, T=T, seed=0):
    return (torch.rand(T, SAMPLES, channels, side, side, generator=torch.Generator().manual_seed(seed)) < 0.5).float()


def build(name, neuron=QUICK, **changes):
    torch.manual_seed(1)
    return ATTENTIONS[name].changed(name, changes).build(Site(C, HEADS, neuron, T))


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention(name):
    check_module(lambda: build(name), spikes())
    check_compiled(build(name).double().eval(), spikes().double())


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention_config(name):
    config = ATTENTIONS[name]
    assert AttentionConfig.parse(json.loads(json.dumps(config.record()))) == config
    assert config.__doc__
    with pytest.raises(ValueError, match=f"{name} takes no 'sale'"):
        AttentionConfig.parse({"name": name, "config": {"sale": 2}})
    with pytest.raises(ValueError, match="7 channels do not divide into 2 heads"):
        Site(7, 2, QUICK)


class Mixer(nn.Module):
    """The part of an attention that its ``ops`` speak of: on parts that are all spikes, and without neurons."""

    def __init__(self, attention):
        super().__init__()
        self.attention = attention

    def forward(self, *parts):
        return self.attention.mix(*parts)


@pytest.mark.parametrize("side", [4, 12])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_it_costs_what_it_says(name, side):
    """Counted on a run where every spike is there, T = 4 steps of one sample."""
    attention = build(name).eval()
    parts = [torch.ones(T, 1, C, side, side) for _ in attention.parts or "x"]
    found = profile(
        Mixer(attention),
        [tuple(parts)],
        time_axis="first",
        input_levels=[(0.0, 1.0)] * len(parts),
        inputs=len(parts),
    )
    said = attention.config.ops(side * side, C, HEADS)
    total = found.total()
    products = sum(record.padded_macs for record in found.records if record.op in ("conv", "matmul"))
    counted = {name: getattr(total, name) for name in ("adds", "mults", "ands", "norm", "other")}
    assert counted == {name: T * getattr(said, name) for name in counted}
    assert products == T * said.dense_macs
    assert total.comparisons == 0


@pytest.mark.parametrize("neuron", [QUICK, NEURONS["ie_lif"]])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_it_gives_the_values_it_says(name, neuron):
    attention = build(name, neuron).double().eval()
    with torch.no_grad():
        y = attention(spikes().double())
    allowed = torch.tensor(attention.config.output(neuron)).double()
    distance = (y.unique()[:, None] - allowed).abs().min(1).values
    assert distance.max() < 1e-12
    assert y.unique().numel() > 1


def changed_at(attention, x, place):
    """The output for ``x`` and for another x from that place ``(steps, tokens)`` on."""
    other = x.clone()
    other.flatten(3)[place] = 1 - other.flatten(3)[place]
    with torch.no_grad():
        return attention(x).flatten(3), attention(other).flatten(3)


@pytest.mark.parametrize("name", [*ATTENTIONS, "lrf_dyn without a local branch"])
def test_it_is_as_causal_as_it_says(name):
    name, *plain = name.split(" without")
    attention = build(name, **({"dilations": ()} if plain else {})).double().eval()
    x = spikes().double()
    assert attention.config.causal_in_time  # none of these looks ahead
    a, b = changed_at(attention, x, (slice(2, None),))
    assert torch.equal(a[:2], b[:2])
    assert not torch.equal(a[2:], b[2:])
    a, b = changed_at(attention, x, (..., slice(9, None)))
    before, after = torch.equal(a[..., :9], b[..., :9]), torch.equal(a[..., 9:], b[..., 9:])
    assert not after
    by_token = name in ("qkta", "sssa_v2")  # tokens know nothing of each other, before the projection behind it
    assert before == (attention.config.causal_in_tokens or by_token)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_its_state_is_what_its_row_of_the_table_says(name):
    config = ATTENTIONS[name]
    d, h = 512, 8
    small, large = config.state(64, d, h), config.state(4096, d, h)
    if name in ("ssa_qk", "dssa"):
        assert large == 64 * 64 * small == h * 4096**2
    elif name in ("qkta", "sssa_v1", "sssa_v2"):
        assert large == 64 * small == h * 4096
    else:
        assert small == large == {"lrf_dyn": 8 * d, "sdsa1": d, "qkca": d}.get(name, d * d // h)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_doubling_tokens_doubles_the_cost_or_it_is_quadratic(name):
    config = ATTENTIONS[name]
    cost = [sum(vars(config.ops(N, 512, 8)).values()) for N in (1 << 16, 1 << 17)]
    assert cost[1] / cost[0] == pytest.approx(4 if name in ("ssa_qk", "dssa") else 2, rel=0.02)
