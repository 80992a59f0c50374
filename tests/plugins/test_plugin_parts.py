"""A norm, a layer, a weight form, an operation and a lowering of somebody else: everything that asks about them is answered.

They live in parts_plugin.py; no file of the package is touched for them.
"""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from saccade import plugins
from saccade.compress import plan_by_ratio, score
from saccade.deploy import compare, lower
from saccade.files import load_model, load_packed, save_model, save_packed
from saccade.layers import Weighted
from saccade.measure import model_size, profile
from saccade.models import create_model
from saccade.neurons import NEURONS
from saccade.transforms import apply, channel_groups, fuse, norm_chains
from saccade.verify import verify, wake

HERE = Path(__file__).parent


@pytest.fixture(scope="module", autouse=True)
def _plugin():
    sys.path.insert(0, str(HERE))
    plugins.load("parts_plugin")
    yield
    sys.path.remove(str(HERE))


def woken(neuron="tet"):
    torch.manual_seed(0)
    model = create_model("parts_net", neuron=neuron).eval()
    x = torch.rand(4, 3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for parameter in (model.hidden[1].shift, model.more[1].shift, model.stem.bias):
            parameter.add_(0.4)
    return model, x


def test_it_keeps_its_promises():
    model, x = woken()
    wake(model, x)
    found = verify(model, x, strict=True)
    assert found.passed, found.table()


def test_a_norm_is_asked_for_its_scale():
    model, x = woken()
    assert [(chain.layer, chain.norm) for chain in norm_chains(model, x).chains] == [
        ("hidden.0", "hidden.1"),
        ("more.0", "more.1"),
    ]
    fused = fuse(model, x)
    assert fused.folded == ["hidden.1", "more.1"]
    with torch.no_grad():
        torch.testing.assert_close(fused.model(x), model(x))


def test_a_layer_with_weights_is_asked_how_it_loses_channels():
    model, x = woken()
    groups = channel_groups(model, x)
    assert set(groups) == {"stem", "hidden.0"}  # the read-out keeps its inputs
    assert groups["hidden.0"].norms == ("hidden.1",)
    kept = [0, 2, 5, 7]
    with torch.no_grad():  # what channels that are silent leave behind
        for i in set(range(12)) - set(kept):
            model.hidden[1].factor[i] = 0
            model.hidden[1].shift[i] = 0
        before = model(x)
        apply(model, {"name": "prune", "config": {"kept": {"hidden.0": kept}}})
        torch.testing.assert_close(model(x), before)
    assert model.hidden[0].weight.shape == (4, 12)
    assert model.more[0].weight.shape == (12, 4)


def test_scores_and_plans_know_it():
    model, x = woken()
    values = score(model, [x], "l1")
    plan = plan_by_ratio(values, 0.25)
    assert set(plan.kept) == {"stem", "hidden.0"}


def test_a_weight_form_quantizes_packs_and_comes_back(tmp_path):
    model, x = woken()
    change = apply(model, {"name": "quantize", "config": {"method": "ternary", "bits": 2, "skip": ["stem", "head"]}})
    assert change.layers == ("hidden.0", "more.0")
    used = model.more[0].used_weight()
    assert len(set((used / used.abs().amax(1, keepdim=True)).flatten().tolist())) == 3
    assert model_size(model).by_kind()["weight"] == (2 * 12 * 12) * 2 + 32 * (64 * 12 + 12 * 10)
    model.train()
    model(x).square().sum().backward()
    assert model.more[0].weight.grad.abs().sum() > 0
    model.eval()
    with torch.no_grad():
        save_model(model, tmp_path / "m.safetensors")
        assert torch.equal(load_model(tmp_path / "m.safetensors")(x), model(x))
        save_packed(model, tmp_path / "p.safetensors")
        torch.testing.assert_close(load_packed(tmp_path / "p.safetensors")(x), model(x))


def test_an_operation_brings_its_counting_rule():
    model, x = woken()
    found = profile(model, x)
    layer = next(layer for layer in found.layers if layer.name == "doubled")
    assert layer.adds == x.numel()


def test_it_is_lowered():
    model, x = woken(replace(NEURONS["leak_mixing"], learn=False))
    apply(model, {"name": "quantize", "config": {"method": "ternary", "bits": 2, "skip": ["stem", "head"]}})
    pixels = (x * 255).round()
    found = compare(lower(model, pixels / 255), model, pixels)
    assert found.mismatches == 0
    assert found.model.std() > 0


def test_a_layer_whose_integers_are_others_is_refused(monkeypatch):
    import parts_plugin

    monkeypatch.delattr(parts_plugin.Scaled, "integers")
    model, x = woken(replace(NEURONS["leak_mixing"], learn=False))
    apply(model, {"name": "quantize", "config": {"method": "ternary", "bits": 2, "skip": ["stem", "head"]}})
    with pytest.raises(ValueError, match=r"hidden.0: a Scaled computes with other weights than its integers say"):
        lower(model, x)


def test_a_layer_without_a_rule_is_refused_by_name():
    class Unknown(Weighted):
        channel_axis = -1

        def forward(self, x):
            return torch.nn.functional.linear(x, self.used_weight())

        def _resize(self):
            pass

    model, x = woken(replace(NEURONS["leak_mixing"], learn=False))
    model.hidden[0].__class__ = Unknown
    with pytest.raises(ValueError, match=r"hidden.0: a Unknown cannot be lowered; a rule can be added"):
        lower(model, x)
