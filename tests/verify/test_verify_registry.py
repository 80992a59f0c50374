"""Every registered model, narrow and woken, keeps its promises; and waking does what it says."""

import pytest
import torch
from small_models import distinct, narrow
from torch import nn

from saccade.neurons import LIF
from saccade.verify import firing_rates, verify, wake
from saccade.verify.subject import Subject, find_axes
from saccade.verify.suite import own_views
from saccade.verify.waking import neurons_of


@pytest.mark.parametrize("name", distinct())
def test_registered_models_keep_their_promises(name):
    model, x = narrow(name)
    rates = wake(model, x)
    assert rates.keys() == neurons_of(model).keys()  # gates and shortcuts included
    found = verify(model, x, strict=True)
    assert found.passed, found.table()
    assert set(found.rates) == set(rates)
    for measured in (rates, found.rates):
        assert all(0.02 <= rate <= 0.6 for rate in measured.values()), measured
    skipped = {check.name for check in found.checks if check.status == "SKIP"}
    gated = any(getattr(module, "causal", True) is False for module in model.modules())
    whole = any(getattr(module, "fixed_T", None) is not None for module in model.modules())  # built for whole sequences
    assert skipped == ({"causal"} if gated else set()) | ({"whole = chunks"} if gated or whole else set())
    assert all(check.status in ("PASS", "SKIP") for check in found.checks)


@pytest.mark.parametrize("name", ["syna_resnet18_small", "ms_resnet18_small", "sew_resnet18_small"])
def test_leaks_between_samples_are_exactly_zero_where_it_matters(name):
    """The check behind the table, done by hand: sample 1 alone, and in the batch."""
    model, x = narrow(name)
    wake(model, x)
    model.double().eval()
    with torch.no_grad():
        whole, alone = model(x.double(), steps=True), model(x[:, 1:2].double(), steps=True)
    assert (whole[:, 1] - alone[:, 0]).abs().max() <= 1e-10
    assert whole.std() > 1e-3


GATES = [
    ("syna_resnet18_small", {"ma": "TCS", "ia": "TCS"}),
    ("syna_resnet18_small", {"ma": "S", "ia": "S"}),
    ("syna_resnet18_small", {"ma": "C", "ia": "C", "position": "d", "identity_shortcuts": True}),
    ("ms_resnet18_small", {"ma": "T", "ia": "T"}),
    ("sew_resnet18_small", {"connection": "and"}),
    ("plain_resnet18_small", {"neuron": "plif"}),
]


@pytest.mark.parametrize(("name", "kwargs"), GATES)
def test_waking_copes_with_every_kind_of_gate(name, kwargs):
    model, x = narrow(name, **kwargs)
    assert all(0.02 <= rate <= 0.6 for rate in wake(model, x).values())
    with torch.no_grad():
        assert model.eval()(x).std() > 0


def test_waking_opens_branches_that_start_at_zero():
    model, x = narrow("ms_resnet18_small")
    last = model.blocks[0].residual[5]
    assert not last.weight.any()
    wake(model, x)
    assert torch.allclose(last.weight, torch.full_like(last.weight, 0.5))


def test_waking_leaves_modes_and_momenta_and_repeats():
    model, x = narrow("syna_resnet18_small")
    twin, _ = narrow("syna_resnet18_small")
    model.train()
    model.blocks[1].eval()
    modes = [module.training for module in model.modules()]
    momenta = [getattr(module, "momentum", None) for module in model.modules()]
    assert wake(model, x) == wake(twin.eval(), x)
    assert [module.training for module in model.modules()] == modes
    assert [getattr(module, "momentum", None) for module in model.modules()] == momenta
    assert all(not (module._forward_hooks or module._forward_pre_hooks) for module in model.modules())
    for key, value in model.state_dict().items():
        assert torch.equal(value, twin.state_dict()[key]), key
    assert firing_rates(model, x) == firing_rates(twin, x)


def test_a_fresh_model_is_asleep():
    """Why waking is needed at all: without it the checks would compare zeros."""
    model, x = narrow("syna_resnet18_small")
    assert min(firing_rates(model, x).values()) == 0
    assert verify(model, x)["activity"].status == "WARN"


def test_waking_raises_where_it_cannot():
    with pytest.raises(ValueError, match="0: no layer in front of it has a bias"):
        wake(nn.Sequential(LIF()), torch.rand(4, 3, 5))
    stuck = nn.Sequential(nn.Linear(5, 5), LIF(v_th=float("inf")))
    with pytest.raises(ValueError, match=r"1 fires 0\.0% of the time"):
        wake(stuck, torch.rand(4, 3, 5))


def test_both_inputs_of_our_models():
    model, x = narrow("plain_resnet18_small")
    for given in (x, x[0]):
        sequence, static = own_views(model, given)
        assert list(sequence.x.shape) == list(x.shape)
        assert list(static.x.shape) == list(x[0].shape)
        assert all(not torch.equal(a, b) for a, b in zip(sequence.x, sequence.x[1:], strict=False))
    with pytest.raises(ValueError, match="at least two samples"):
        own_views(model, x[:, :1])


def test_where_samples_are_found():
    """T folded into the batch, samples first, samples second: told from the shapes of one and of three samples."""
    keys = [("folded", 0, 0), ("first", 0, 0), ("second", 0, 0), ("constant", 0, 0)]
    one = dict(zip(keys, (torch.rand(4, 5), torch.rand(1, 4), torch.rand(4, 1, 5), torch.rand(3)), strict=True))
    many = dict(zip(keys, (torch.rand(12, 5), torch.rand(3, 4), torch.rand(4, 3, 5), torch.rand(3)), strict=True))
    axes = find_axes(one, many, 3)
    assert {key[0]: (where.axis, where.fold) for key, where in axes.items()} == {
        "folded": (0, 4),
        "first": (0, 1),
        "second": (1, 1),
    }
    inside, outside = axes[keys[0]].sample(torch.arange(12).view(12, 1), 1)
    assert inside.flatten().tolist() == [1, 4, 7, 10]
    assert outside.flatten().tolist() == [4, 5, 6, 7]


def test_a_leak_without_neurons_is_seen_too():
    class Leak(nn.Module):
        def forward(self, x):
            return x + 1e-7 * x.mean(1, keepdim=True)

    subject = nn.Sequential(nn.Linear(5, 5), Leak())
    found = verify(subject, torch.rand(4, 3, 5), time_axis="first")
    assert found["alone = in a batch"].layer == "1"
    assert isinstance(subject, nn.Module)
    assert Subject.__doc__
