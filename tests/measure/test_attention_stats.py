"""Where attentions look: maps, mass, entropy and receptive fields against what they must be."""

import math

import pytest
import torch
from small_models import narrow
from torch import nn

from saccade.layers.attention.lrf_ssa import LRFBranch
from saccade.measure import AttentionMap, attention_maps, attention_stats, receptive_field
from saccade.measure.attention_stats import manhattan
from saccade.transforms import apply
from saccade.verify import wake


def even(height, width):
    places = height * width
    return AttentionMap(torch.full((1, places, height, width), 1 / places).double(), torch.arange(places))


@pytest.mark.parametrize(
    ("side", "r", "mass", "mean", "farthest"),
    [(14, 5, 0.2347, 9.29, 26), (8, 5, 0.56, None, 14), (8, 2, 0.165, None, 14)],
)
def test_an_even_distribution(side, r, mass, mean, farthest):
    found = even(side, side)
    assert found.mass_within(r) == pytest.approx(mass, abs=0.006)
    assert found.entropy() == pytest.approx(1)
    assert found.distances().max() == farthest
    assert found.mass_within(farthest) == pytest.approx(1)
    if mean is not None:
        assert float(found.distances().double().mean()) == pytest.approx(mean, abs=0.01)


def test_distances_by_hand():
    assert manhattan(torch.tensor([0, 4]), 2, 3).tolist() == [[[0, 1, 2], [1, 2, 3]], [[2, 1, 2], [1, 0, 1]]]


def test_shares_by_hand():
    weights = torch.zeros(1, 2, 2, 2).double()
    weights[0, 0] = torch.tensor([[0.5, 0.25], [0.25, 0.0]])  # the second query gets nothing
    found = AttentionMap(weights, torch.tensor([0, 3]))
    assert found.mass_within(0) == 0.5
    assert found.mass_within(1) == 1
    assert found.heard() == 0.5
    assert found.entropy() == pytest.approx(1.5 * math.log(2) / math.log(4))


def woken(name, **changes):
    model, x = narrow(name, **changes)
    wake(model, x)
    return model.double().eval(), x.double()


@pytest.mark.parametrize("attention", ["ssa_kv", "ssa_qk"])
def test_maps_of_self_attention_are_its_scores(attention):
    model, x = woken("spikformer_small", attention=attention)
    seen = {}
    handles = [
        model.get_submodule(f"blocks.0.backbone.0.{part}").register_forward_hook(
            lambda module, args, y, part=part: seen.update({part: y})
        )
        for part in "qk"
    ]
    (found,) = attention_maps(model, x, most=10**6).values()
    for handle in handles:
        handle.remove()
    q, k = (seen[part].detach().flatten(3).unflatten(2, (2, -1)) for part in "qk")
    scores = (q.transpose(-1, -2) @ k).sum((0, 2))  # over steps and heads
    scores = scores / scores.sum(-1, keepdim=True).clamp(min=1e-300)
    assert torch.allclose(found.weights.flatten(2), scores, atol=1e-12)
    assert found.heard() > 0
    assert model.training is False


def test_masks_look_only_at_their_own_place():
    model, x = woken("snn_vit_small")
    (stats,) = attention_stats(model, x, r=0).values()
    assert stats.attention == "sssa_v2"
    assert stats.mass == pytest.approx(1)
    assert stats.entropy == pytest.approx(0, abs=1e-9)
    assert 0 < stats.heard <= 1
    assert stats.to_json()["even_mass"] == pytest.approx(1 / stats.places)


def test_a_causal_scan_looks_back_only():
    model, x = woken("spikformer_small", attention={"name": "lrf_dyn", "config": {"dilations": []}})
    (found,) = attention_maps(model, x).values()
    later = torch.arange(found.weights[0, 0].numel()) > found.queries[:, None]
    assert found.weights.flatten(2)[:, later].abs().max() == 0
    assert found.heard() > 0


def test_local_fields_bring_attention_nearer():
    """Attached to a network with the kernels that they begin with: more within two places, and less even."""
    model, x = woken("spikformer_small")
    (before,) = attention_stats(model, x, r=2).values()
    torch.manual_seed(0)
    apply(model, "attach_lrf")
    (after,) = attention_stats(model, x, r=2).values()
    assert after.attention == "lrf_ssa"
    assert after.mass > before.mass
    assert after.entropy < before.entropy


def test_the_receptive_field_of_a_convolution_is_its_kernel():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.local = LRFBranch(2, (1, 3)).double().eval()

        def forward(self, x):
            return self.local(x)

    net = Net()
    for convolution in net.local.convolutions:
        nn.init.ones_(convolution.weight)
    field = receptive_field(net, torch.rand(1, 1, 2, 9, 9).double(), "local")
    expected = torch.zeros(9, 9).double()
    for d in (1, 3):
        for i in (-d, 0, d):
            for j in (-d, 0, d):
                expected[4 + i, 4 + j] += 1
    assert torch.allclose(field, expected / expected.sum())


def test_a_receptive_field_grows_with_depth():
    model, _ = woken("spikformer_small")
    x = torch.rand(4, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).double()
    near, far = (receptive_field(model, x, path) for path in ("stem.rest", "blocks"))
    assert near.shape == x.shape[-2:]
    assert near.sum() == pytest.approx(1)
    assert (far > 0).sum() > (near > 0).sum()


def test_what_cannot_be():
    model, x = narrow("vgg_small")
    with pytest.raises(ValueError, match="Vgg has no attention of spikes"):
        attention_maps(model, x)
    model, x = narrow("spikformer_small")
    with pytest.raises(ValueError, match="most must be at least one query"):
        attention_maps(model, x, most=0)
    with pytest.raises(ValueError, match="r must be 0 places or more"):
        attention_stats(model, x, r=-1)
    with pytest.raises(ValueError, match="'head' returns no map"):
        receptive_field(model, x, "head")
