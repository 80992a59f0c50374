"""Ingredients of training against attacks, each against what its formula says, and together in a recipe."""

import math

import pytest
import torch
from test_attacks import Small, small
from torch import nn

from saccade.experiment import parse, run
from saccade.neurons import LIFConfig, NoisyLIFConfig
from saccade.robust.defences.adversarial import AdversarialTraining, Trades
from saccade.robust.defences.orthogonal import OrthogonalRetraction, retracted
from saccade.robust.defences.smooth import SparseGradients
from saccade.robust.defences.threshold_guard import FlipPenalty, ThresholdGuard, ramp, share_within
from saccade.train.ingredients import INGREDIENTS, TrainingStep
from saccade.train.tasks import Classification


def step_of(model, x, y):
    task = Classification().build(type("M", (), {"num_classes": 5, "readout": "mean"})())

    def call(images):
        return model(images)[None]

    return TrainingStep(model, task, x, y, 1.0, call, output=call(x))


def test_the_guard_is_a_hinge_around_the_threshold():
    guard, neuron = ThresholdGuard(weight=1.0, delta=0.5), LIFConfig(v_th=1.0).build()
    assert float(guard.penalty(neuron, torch.ones(2, 3, 4))) == 0.5
    far = torch.tensor([[[0.5, 1.5, -3.0, 9.0]]])
    assert float(guard.penalty(neuron, far)) == 0
    near = torch.tensor([[[0.9, 1.2, 0.2]]], dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(guard.penalty(neuron, near), near)
    assert torch.allclose(g, torch.tensor([[[1.0, -1.0, 0.0]]], dtype=torch.float64) / 3)  # away from the threshold
    u = torch.linspace(0.6, 1.4, 9)[None, None].clone().requires_grad_(True)
    before = 0.0
    for _ in range(60):
        (g,) = torch.autograd.grad(guard.penalty(neuron, u), u)
        u = (u - 0.1 * g).detach().requires_grad_(True)
        now = float((u.detach() - 1).abs()[u != 1].min())
        assert now >= before - 1e-6
        before = now
    one, two = torch.rand(3, 1, 5), torch.rand(3, 4, 5)
    assert float(guard.penalty(neuron, one)) == pytest.approx(float(guard.penalty(neuron, one.expand(3, 7, 5))))
    assert float(ThresholdGuard(reduction="neurons").penalty(neuron, two)) == pytest.approx(
        5 * float(ThresholdGuard().penalty(neuron, two))
    )
    after = ThresholdGuard(potential="after").penalty(neuron, torch.full((1, 1, 1), 1.1))
    assert float(after) == 0  # it fired and lies at rest


def test_the_weight_grows_along_half_a_cosine():
    assert ramp(0) == 0
    assert ramp(1) == 1
    assert ramp(0.5) == pytest.approx(0.5)
    values = [ramp(k / 20) for k in range(21)]
    assert values == sorted(values)


def test_the_share_of_normal_distributions():
    zero = torch.zeros(())
    assert float(share_within(zero, torch.tensor(1e-9), 0.5)) == pytest.approx(1)
    assert float(share_within(torch.tensor(50.0), torch.tensor(1.0), 0.5)) == pytest.approx(0, abs=1e-6)
    assert float(share_within(zero, torch.tensor(1.0), 1.0)) == pytest.approx(0.6827, abs=1e-4)


def test_retraction_moves_singular_values_towards_one():
    beta = 0.05
    torch.manual_seed(0)
    for shape in ((6, 10), (10, 6)):
        w = torch.randn(shape, dtype=torch.float64)
        u, s, v = torch.linalg.svd(w / w.norm(), full_matrices=False)
        found = torch.linalg.svdvals(retracted(w / w.norm(), beta))
        assert torch.allclose(found, (1 + beta) * s - beta * s**3)
        assert u.shape[1] == v.shape[0]
    w = nn.init.orthogonal_(torch.empty(6, 10, dtype=torch.float64))
    assert torch.allclose(retracted(w, beta), w, atol=1e-12)
    w = w + 0.02 * torch.randn_like(w)
    for _ in range(20):
        before = (w @ w.t() - torch.eye(6, dtype=torch.float64)).norm()
        w = retracted(w, beta)
        assert (w @ w.t() - torch.eye(6, dtype=torch.float64)).norm() <= before + 1e-12
    assert torch.isfinite(retracted(torch.randn(40, 40) * 1e3, 5e-4)).all()
    model = Small()
    before = model.conv.weight.detach().clone()
    with torch.no_grad():
        OrthogonalRetraction().after_step(model)
    assert not torch.equal(model.conv.weight, before)


def test_adversarial_images_are_near_and_worse():
    model, x, y = small()
    model.train()
    step = step_of(model, x, y)
    torch.manual_seed(0)
    kept = model.norm.running_mean.clone()
    found = AdversarialTraining(eps=8 / 255, steps=3).images(step)
    assert torch.equal(model.norm.running_mean, kept)
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert (found - x).abs().max() <= 8 / 255 + 1e-6
    assert 0 <= found.min() <= found.max() <= 1
    model.eval()
    loss = nn.functional.cross_entropy
    assert loss(model(found), y) > loss(model(x), y)


def test_trades_and_sparse_gradients_reach_the_weights():
    for ingredient in (Trades(eps=0.03, steps=2), SparseGradients(weight=1.0)):
        model, x, y = small()
        model.train()
        value = ingredient.loss(step_of(model, x, y))
        assert float(value.detach()) > 0
        value.backward()
        assert model.conv.weight.grad.abs().sum() > 0


def test_sparse_gradients_of_a_line():
    """f = sigmoid(z_y - z_j): along the sign of a line's gradient the difference is known."""
    w = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float32)

    class Line(nn.Module):
        def forward(self, x):
            z = x @ w
            return torch.stack([z, -z], 1)

    x, y = torch.rand(5, 3), torch.zeros(5, dtype=torch.long)
    task = Classification().build(type("M", (), {"num_classes": 2, "readout": "mean"})())
    model = Line()
    step = TrainingStep(model, task, x, y, 0.0, lambda images: model(images)[None], model(x)[None])
    h = 0.01
    z = 2 * (x @ w)
    expected = ((torch.sigmoid(z + 2 * h * w.abs().sum()) - torch.sigmoid(z)) / h).square().mean()
    assert float(SparseGradients(weight=1.0, h=h).loss(step).detach()) == pytest.approx(float(expected), rel=1e-3)
    step.target = torch.full((5, 2), 0.5)
    with pytest.raises(ValueError, match="mixed images"):
        SparseGradients().loss(step)


def test_noise_of_the_potential():
    x = torch.full((1, 100_000), 0.8)
    for mode in ("reparameterised", "bernoulli"):
        neuron = NoisyLIFConfig(sigma=0.3, mode=mode, lif=LIFConfig(decay_input=False)).build()
        torch.manual_seed(0)
        rate = float(neuron(x[None]).mean())
        p = 0.5 * (1 + math.erf((0.8 - 1) / 0.3 / math.sqrt(2)))
        assert abs(rate - p) < 4 * math.sqrt(p * (1 - p) / 100_000)
        leaf = torch.full((1, 1, 1), 0.8, requires_grad=True)
        neuron(leaf).sum().backward()
        if mode == "bernoulli":
            z = -0.2 / 0.3
            assert float(leaf.grad) == pytest.approx(math.exp(-z * z / 2) / math.sqrt(2 * math.pi) / 0.3, rel=1e-5)
        neuron.eval()
        plain = LIFConfig(decay_input=False).build().eval()
        drive = torch.randn(6, 2, 50)
        assert torch.equal(neuron(drive), plain(drive))
    always = NoisyLIFConfig(when="always").build().eval()
    assert not torch.equal(always(drive * 2), always(drive * 2))
    off = NoisyLIFConfig(when="off").build()
    assert torch.equal(off(drive), LIFConfig().build()(drive))
    none = NoisyLIFConfig(sigma=0.0).build()
    assert torch.equal(none(drive), LIFConfig().build()(drive))
    for bad, said in (({"sigma": -1.0}, "sigma"), ({"when": "test"}, "when must be"), ({"mode": "x"}, "mode must be")):
        with pytest.raises(ValueError, match=said):
            NoisyLIFConfig(**bad)


def test_gradients_of_added_noise_are_those_of_the_surrogate():
    torch.manual_seed(0)
    config = LIFConfig(tau=2.0, decay_input=False, reset="soft", detach_reset=True)
    neuron, x = NoisyLIFConfig(sigma=1e-9, lif=config).build(), torch.randn(5, 3, 8, dtype=torch.float64) + 0.5
    grads = []
    for one in (neuron, config.build()):
        leaf = x.clone().requires_grad_(True)
        (one(leaf) * torch.arange(8)).sum().backward()
        grads.append(leaf.grad)
    assert torch.allclose(*grads, atol=1e-6)


pytest.importorskip("sklearn", reason="the digits need scikit-learn")
RECIPE = {
    "name": "guarded-digits",
    "model": {
        "name": "or_resnet18",
        "config": {"stem": "mnist", "T": 3, "widths": [4, 8], "pairs": [1, 1], "neuron": "noisy_lif"},
    },
    "data": {"name": "digits", "validation": 100, "train_size": 200},
    "train": {"epochs": 1, "batch_size": 50, "lr": 0.01, "accelerator": "cpu"},
}


def test_every_ingredient_trains_and_resumes_alike(tmp_path):
    everything = sorted(set(INGREDIENTS) - {"trades"})
    for names in (everything, ["trades", {"name": "threshold_guard", "config": {"weight": 0.6}}]):
        folder = tmp_path / str(len(names))
        summary = run(parse({**RECIPE, "ingredients": names}), folder, quiet=True, report=False)
        assert 0 < summary["test_accuracy"] <= 1
        assert "threshold_guard" in (folder / "recipe.yaml").read_text()


def test_what_does_not_fit_is_refused_before_training(tmp_path):
    raw = {**RECIPE, "model": {"name": "qsd_small"}, "ingredients": ["threshold_guard"]}
    raw["model"] = {"name": "or_resnet18", "config": RECIPE["model"]["config"] | {"neuron": "ie_lif"}}
    with pytest.raises(ValueError, match="ingredients.threshold_guard: the model has no LIF neurons"):
        run(parse(raw), tmp_path / "a", quiet=True)
    with pytest.raises(ValueError, match="unknown training ingredient 'trade'; did you mean trades"):
        parse({**RECIPE, "ingredients": ["trade"]})
    assert FlipPenalty().wants_potentials
