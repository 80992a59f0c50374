"""Integer neurons as binary spikes: the same function, and what would not be."""

import pytest
import torch
from small_models import narrow

from saccade.files import load_model, save_model
from saccade.graph import outputs
from saccade.layers.attention.ssa_kv import SSA, UnrolledSSA
from saccade.measure import profile
from saccade.models import create_model
from saccade.neurons import IntegerConfig, Spiking, Stream, Unrolled
from saccade.transforms import QuantizeConfig, apply, quantize_, unroll
from saccade.verify import verify, wake


def woken(name="qsd_small", **changes):
    model, x = narrow(name, **changes)
    model, x = model.double(), x.double()
    wake(model, x)
    return model.eval(), x


NETWORKS = {
    "QSD": ("qsd_small", {}),
    "QSD, seven levels": ("qsd_small", {"neuron": {"name": "ie_lif", "config": {"D": 7}}}),
    "QSD, one level": ("qsd_small", {"neuron": {"name": "ie_lif", "config": {"D": 1}}}),
    "QSD with a state": ("qsd_small", {"neuron": "ie_lif_stateful"}),
    "QSD, dense projections": ("qsd_small", {"projection": "merged"}),
    "v3, pairs of tokens first": ("sdt_v3_small", {"T": 3}),
    "spikes are added and pooled": ("spikformer_small", {"neuron": "ie_lif"}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_binary_spikes_compute_what_levels_do(name):
    model, x = woken(NETWORKS[name][0], **NETWORKS[name][1])
    found = unroll(model, x)
    assert found.flips == 0
    assert found.gap <= 1e-9
    with torch.no_grad():
        expected = model(x, steps=True)
        spiking = lambda path, module: isinstance(module, Spiking)  # noqa: E731
        with outputs(found.model, spiking) as spikes:
            y = found.model(x, steps=True)
        for path, (made,) in spikes.items():
            assert len(made) == len(x) * found.D
            assert len(made.unique()) <= 2
            assert set(made.unique().tolist()) <= set(found.model.get_submodule(path).levels)
        assert sum(bool(made.any()) for (made,) in spikes.values()) > len(spikes) / 2
        assert expected.std() > 0
        assert (y - expected).abs().max() <= 1e-9 * max(1, float(expected.abs().max()))
        static = found.model(x[0]) - model(x[0])
        assert static.abs().max() <= 1e-9 * max(1, float(expected.abs().max()))


def test_products_of_single_virtual_steps_are_another_function():
    """What would be left if the attention did nothing about virtual steps: a guard, for the check above could be idle."""
    model, x = woken()
    found = unroll(model, x).model
    attention = next(module for module in found.modules() if isinstance(module, UnrolledSSA))
    parts = [torch.rand(4 * 2, 3, 8, 3, 3, dtype=torch.float64).round() for _ in range(3)]
    whole = attention.mix(*parts)[::4]
    q, k, v = (part.unflatten(0, (2, 4)).mean(1) for part in parts)
    assert torch.allclose(SSA.mix(attention, q, k, v), whole)
    step_wise = SSA.mix(attention, *parts).unflatten(0, (2, 4)).mean(1)
    assert not torch.allclose(step_wise, whole, rtol=0.1)
    for module in found.modules():
        if isinstance(module, UnrolledSSA):
            module.__class__ = SSA
    with torch.no_grad():
        assert (found(x) - model(x)).abs().max() > 1e-3


def test_with_weights_of_four_bits_and_back_from_a_file(tmp_path):
    model, x = narrow("qsd_small")
    quantize_(model, QuantizeConfig("lsq", 4, steps="channel", skip=()))
    wake(model, x)
    model.eval()
    found = unroll(model, x)
    assert found.flips == 0
    assert found.flips_in_use <= 1e-3 * found.levels
    save_model(found.model, tmp_path / "binary.safetensors")
    again = load_model(tmp_path / "binary.safetensors")
    with torch.no_grad():
        assert torch.equal(again(x), found.model(x))


def test_a_level_is_so_many_spikes_of_a_profile():
    model, x = woken()
    levels, binary = profile(model, x).layers, profile(unroll(model, x).model, x).layers
    assert sum(row.spikes for row in levels) > 1000
    assert [(row.name, row.spikes) for row in binary] == [(row.name, row.spikes) for row in levels]
    assert [row.neuron_steps for row in binary] == [4 * row.neuron_steps for row in levels]


def test_what_cannot_be_unrolled_is_named():
    model, x = woken("sdt_v1_small", neuron="ie_lif")
    with pytest.raises(ValueError, match=r"\(sdsa1\): how its products expand into binary spikes is not known"):
        unroll(model, x)
    with pytest.raises(ValueError, match="is a LIF, no integer neuron"):
        apply(create_model("sdt_v2_small"), "unroll")
    with pytest.raises(ValueError, match="no fixed number of virtual steps"):
        apply(create_model("qsd_small", neuron="di_lif"), "unroll")
    with pytest.raises(ValueError, match="Linear is no model of saccade"):
        apply(torch.nn.Linear(2, 2), "unroll")
    model, x = woken("or_resnet18_small", neuron="ie_lif")
    with pytest.raises(ValueError, match="something between its neurons is not affine"):
        unroll(model, x)


def test_its_gradients_are_those_of_the_levels():
    model, x = woken()
    found = unroll(model, x).model
    gradients = []
    for one in (model, found):
        given = x.clone().requires_grad_()
        one(given).square().sum().backward()
        gradients.append([given.grad, *(p.grad for p in one.parameters())])
    assert gradients[0][0].abs().max() > 0
    for mine, other in zip(*gradients, strict=True):
        assert torch.allclose(mine, other, atol=1e-9 * max(1, float(mine.abs().max())))


def test_it_passes_verify_and_does_not_stream():
    model, x = woken()
    found = unroll(model, x).model
    checked = {check.name: check.status for check in verify(found, x).checks}
    assert "FAIL" not in checked.values()
    assert [checked[name] for name in ("alone = in a batch", "alphabet", "gradients in eval")] == ["PASS"] * 3
    with pytest.raises(ValueError, match=r"\(Unrolled\) looks at later steps"):
        Stream(found)
    with pytest.raises(ValueError, match="6 steps are no windows of 4 virtual steps"):
        Unrolled(IntegerConfig())(torch.zeros(6, 1, 2))
