"""Attacks: what all of them keep, worst cases that are known exactly, and other libraries beside them."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from saccade.layers import BatchNorm2d, Conv2d, Linear
from saccade.models import create_model
from saccade.neurons import LIFConfig
from saccade.robust import ATTACKS, Attack, Threat, attack
from saccade.robust.attacks.apgd import APGD
from saccade.robust.attacks.ensemble import Ensemble
from saccade.robust.attacks.fgsm import FGSM
from saccade.robust.attacks.pgd import PGD
from saccade.robust.attacks.sa_pgd import SAPGD
from saccade.robust.attacks.sda import SDA
from saccade.robust.attacks.square import Square
from saccade.robust.attacks.transfer import Transfer
from saccade.verify import wake

QUICK = {"square5000": Square(queries=20), "square": Square(queries=20), "surrogates19": None}
NAMES = [name for name in ATTACKS if name not in ("sda", "surrogates19", "square5000")]


class Small(nn.Module):
    """A spiking network of pictures 3 x 8 x 8."""

    def __init__(self, classes=5):
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.norm = Conv2d(3, 8, 3, padding=1), BatchNorm2d(8)
        self.fire = LIFConfig(tau=2.0, decay_input=False, v_th=0.6).build(channels=8)
        self.second, self.norm2 = Conv2d(8, 8, 3, padding=1, bias=False), BatchNorm2d(8)
        self.fire2 = LIFConfig(tau=2.0, decay_input=False, v_th=0.4).build(channels=8)
        self.head = Linear(8 * 64, classes)

    def forward(self, x):
        x = self.fire(self.norm(self.conv(x[None])).expand(4, -1, -1, -1, -1))
        return self.head(self.fire2(self.norm2(self.second(x))).flatten(2)).mean(0)


def small():
    model = Small()
    x = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    model.train()
    for module in model.modules():
        if isinstance(module, BatchNorm2d):
            module.momentum = None
    model(x)
    model.eval()
    return model, x, model(x).argmax(1)


def shortened(name):
    found = QUICK.get(name) or ATTACKS[name]
    return found.changed(name, {"steps": 8}) if hasattr(found, "steps") else found


@pytest.mark.parametrize("name", NAMES)
def test_what_every_attack_keeps(name):
    model, x, y = small()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    how = shortened(name)
    found = attack(model, x, y, how, 8 / 255, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert found.images.shape == x.shape
    assert found.images.dtype == x.dtype
    assert torch.isfinite(found.images).all()
    assert (found.images - x).abs().max() <= 8 / 255 + 1e-6
    assert 0 <= found.images.min() <= found.images.max() <= 1
    assert torch.equal(model(found.images).argmax(1) == y, found.robust)
    assert found.clean.all()
    assert found.forwards > 0
    assert torch.equal(attack(model, x, y, how, 8 / 255, seed=5).images, found.images)
    assert torch.equal(attack(model, x, y, how, 0.0).images, x)


@settings(deadline=None, max_examples=15)
@given(
    st.sampled_from(["fgsm", "rfgsm", "pgd", "apgd_ce", "sa_pgd", "square", "cw", "assg"]),
    st.floats(0, 0.2),
    st.integers(0, 99),
)
def test_any_epsilon_is_kept(name, eps, seed):
    model, x, y = small()
    found = attack(model, x * 2 - 0.5, y, shortened(name), eps, low=-0.5, high=1.5, seed=seed)
    assert (found.images - (x * 2 - 0.5)).abs().max() <= eps + 1e-6
    assert -0.5 <= found.images.min() <= found.images.max() <= 1.5


def test_samples_that_are_wrong_already_stay_as_they_are():
    model, x, y = small()
    y[:6] = (y[:6] + 1) % 5
    found = attack(model, x, y, "pgd10", 0.05)
    assert torch.equal(found.images[:6], x[:6])
    assert found.clean.tolist() == [False] * 6 + [True] * 6
    assert not found.robust[:6].any()


class Line(nn.Module):
    """Two classes whose difference is linear: the worst case is ``x - eps sign(w)`` for all of them."""

    def __init__(self, bias=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.w = nn.Parameter(torch.randn(3 * 16))
        self.bias = bias

    def forward(self, x):
        z = x.flatten(1) @ self.w + self.bias
        return torch.stack([z, -z, torch.full_like(z, -1e3)], 1)


@pytest.mark.parametrize(
    "how",
    [FGSM(), PGD(steps=10), APGD(steps=20), APGD(steps=20, loss="dlr"), SAPGD(steps=30), PGD(steps=10, loss="margin")],
)
def test_the_worst_case_of_a_line(how):
    model = Line().eval()
    x = torch.rand(40, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    model.bias = -float((x.flatten(1) @ model.w.detach()).median())
    y = model(x).argmax(1)
    eps = 0.05
    sign = model.w.detach().sign().view(1, 3, 4, 4)
    worst = torch.where((y == 0).view(-1, 1, 1, 1), x - eps * sign, x + eps * sign).clamp(0, 1)
    known = model(worst).argmax(1) == y
    found = attack(model, x, y, how, eps)
    assert torch.equal(found.robust, known)
    assert 3 < int(known.sum()) < 37


def test_orders_that_must_hold():
    model, x, y = small()
    eps = 0.03
    rates = [int(attack(model, x, y, PGD(steps=steps, step=0.1), eps, seed=1).robust.sum()) for steps in (1, 5, 10, 30)]
    assert rates == sorted(rates, reverse=True)
    single = attack(model, x, y, PGD(steps=1, step=1.0, random=False), eps)
    assert torch.equal(single.robust, attack(model, x, y, "fgsm", eps).robust)
    members = (PGD(steps=5), APGD(steps=10), ATTACKS["bptr"])
    worst = attack(model, x, y, Ensemble(members), eps, seed=2).robust
    assert int(worst.sum()) <= min(int(attack(model, x, y, one, eps, seed=2).robust.sum()) for one in members)
    with pytest.warns(UserWarning, match="more than 64/255"):
        assert not attack(model, x, y, "pgd100", 1.0).robust.any()


def test_budgets_are_counted():
    model, x, y = small()
    found = attack(model, x, y, FGSM(), 1e-6)
    assert found.gradients == 12
    assert found.forwards == 2 + 12 + 12 + 12 + 12  # noise, clean, gradient, answer, score
    doubled = attack(model, x, y, FGSM(), 1e-6, draws=3)
    assert doubled.gradients == 36


def test_models_of_noise_are_scored_by_means():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = small()[0]

        def forward(self, x):
            return self.inner((x + 0.05 * torch.randn_like(x)).clamp(0, 1))

    model = Noisy().eval()
    _, x, y = small()
    found = attack(model, x, y, PGD(steps=5), 8 / 255, draws=4, seed=3)
    assert torch.equal(found.images, attack(model, x, y, PGD(steps=5), 8 / 255, draws=4, seed=3).images)
    right = int(found.clean.sum())
    assert found.gradients == right * 5 * 4  # no sample leaves for one draw that goes wrong


def test_transfer_and_flips():
    model, x, y = small()
    other, *_ = small()
    with torch.no_grad():
        other.head.weight.add_(0.01 * torch.randn(other.head.weight.shape, generator=torch.Generator().manual_seed(0)))
    found = attack(model, x, y, Transfer(source=other, attack=PGD(steps=10)), 0.1)
    assert found.gradients == 0
    assert int(found.robust.sum()) < 12
    frames = (x > 0.5).float()
    labels = model(frames).argmax(1)
    with pytest.warns(UserWarning, match="64/255"):
        flipped = attack(model, frames, labels, SDA(rounds=20), 1.0)
    assert set(flipped.images.unique().tolist()) <= {0.0, 1.0}
    assert not flipped.robust.all()
    changes = (flipped.images != frames).flatten(1).sum(1)
    assert int(changes[~flipped.robust].max()) < 192
    with pytest.raises(ValueError, match="frames of zeros and ones"):
        attack(model, x, y, SDA(), 0.2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m, x, y: (m.train(), x, y), r"training mode, where batches change it; call model.eval\(\)"),
        (lambda m, x, y: (m, x * 3, y), "outside 0 .. 1: normalisation belongs inside the model"),
        (lambda m, x, y: (m, x.long(), y), "images .N, .... of real numbers, got torch.int64"),
        (lambda m, x, y: (m, x / 0, y), "not finite"),
        (lambda m, x, y: (m, x, y + 5), "labels from"),
        (lambda m, x, y: (m, x, y[:3]), "one an image"),
        (lambda m, x, y: (nn.Sequential(nn.Flatten(2)).eval(), x, y), r"need logits \[1, K\]"),
    ],
)
def test_wrong_input_is_one_line(change, said):
    model, x, y = change(*small())
    with pytest.raises(ValueError, match=said) as error:
        attack(model, x, y, "pgd10")
    assert "\n" not in str(error.value)


def test_unknown_names_and_settings():
    model, x, y = small()
    with pytest.raises(ValueError, match="unknown attack 'pgb10'; did you mean pgd10"):
        attack(model, x, y, "pgb10")
    with pytest.raises(ValueError, match="eps is finite"):
        Threat(math.nan)
    with pytest.raises(ValueError, match="steps"):
        Attack.parse({"name": "pgd", "config": {"steps": 0}})


def test_a_network_of_ours_and_empty_batches():
    model = create_model("vgg_small", T=2)
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    wake(model, x)
    model.eval()
    y = model(x).argmax(1)
    assert attack(model, x, y, "pgd10").images.shape == x.shape
    assert len(attack(model, x[:0], y[:0], "pgd10").images) == 0


def test_networks_of_others_are_reset():
    pytest.importorskip("spikingjelly", reason="SpikingJelly is not installed")
    from spikingjelly.activation_based import functional, neuron

    class Theirs(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.first, self.fire, self.head = nn.Linear(48, 32), neuron.LIFNode(step_mode="m"), nn.Linear(32, 4)

        def forward(self, x):
            return self.head(self.fire(self.first(x.flatten(1)).expand(4, -1, -1) * 3)).mean(0)

    model = Theirs().eval()
    x = torch.rand(8, 3, 4, 4)
    with torch.no_grad():
        y = model(x).argmax(1)
    found = attack(model, x, y, "pgd20", 0.1)
    functional.reset_net(model)
    assert torch.equal((model(found.images).argmax(1) == y), found.robust)
    assert found.clean.any()
    assert not torch.equal(attack(model, x, y, "surrogates5", 0.1).images, x)
