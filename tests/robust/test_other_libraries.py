"""Attacks beside those of other libraries, where these are installed, on a small network without spikes."""

import pytest
import torch
from torch import nn

from saccade.robust import attack

EPS = 0.01


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 30), nn.ReLU(), nn.Linear(30, 5)).eval()


@pytest.fixture
def images(network):
    x = torch.rand(60, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return x, network(x).argmax(1)


def pyautoattack(network, x, y):
    library = pytest.importorskip("pyautoattack", reason="pyautoattack is not installed")
    settings = {"norm": "Linf", "eps": EPS, "version": "custom", "attacks": ["apgd-ce"], "device": "cpu", "seed": 0}
    return library.AutoAttack(network, **settings).run_standard_evaluation(x, y, batch_size=60)[0]


def adv_lib(network, x, y):
    library = pytest.importorskip("adv_lib.attacks.auto_pgd", reason="adv-lib is not installed")
    return library.apgd(network, x, y, eps=EPS, norm=float("inf"), n_iter=100, loss_function="ce")


def torchattacks(network, x, y):
    library = pytest.importorskip("torchattacks", reason="torchattacks is not installed")
    return library.APGD(network, eps=EPS, steps=100, loss="ce")(x, y)


def art(network, x, y):
    library = pytest.importorskip("art.attacks.evasion", reason="the adversarial-robustness-toolbox is not installed")
    from art.estimators.classification import PyTorchClassifier

    wrapped = PyTorchClassifier(network, nn.CrossEntropyLoss(), (3, 4, 4), 5, clip_values=(0.0, 1.0), device_type="cpu")
    settings = {"eps": EPS, "eps_step": 2 * EPS, "max_iter": 100, "batch_size": 60, "verbose": False}
    return torch.as_tensor(library.AutoProjectedGradientDescent(wrapped, **settings).generate(x.numpy(), y.numpy()))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("theirs", [pyautoattack, adv_lib, torchattacks, art], ids=lambda one: one.__name__)
def test_auto_pgd_leaves_as_many_right(theirs, network, images):
    x, y = images
    adversarial = theirs(network, x, y)
    assert (adversarial - x).abs().max() <= EPS + 1e-6
    robust = int((network(adversarial).argmax(1) == y).sum())
    ours = int(attack(network, x, y, "apgd_ce", EPS).robust.sum())
    assert 0 < ours < 60
    assert ours <= robust + 1
    assert ours >= robust - 1 or theirs is art  # whose steps stall earlier
