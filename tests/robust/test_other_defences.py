"""FEEL's encoder before a model, StoG's gates, the perturbation of potentials that goes with DLIF."""

import pytest
import torch
from test_attacks import small
from test_defences import step_of

from saccade.experiment import parse, run
from saccade.files import load_model
from saccade.layers.encode import low_pass
from saccade.models import create_model
from saccade.neurons import NEURONS, LIFConfig
from saccade.neurons.gated import GatedLIFConfig
from saccade.robust.defences.perturbation import MembranePerturbation
from saccade.transforms import apply, undo


def test_low_pass_shows_each_step_its_frequencies():
    model = create_model("vgg_small", T=4, num_classes=3).eval()
    x = torch.rand(2, 3, 32, 32)
    before = model(x)
    apply(model, "low_pass")
    assert model.transforms[-1].widths == (16, 12, 8, 4)
    seen = []
    model.stem.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model(x)
    inner = model.normalise.normalise
    assert torch.allclose(seen[0], inner(low_pass(x, (16, 12, 8, 4))))
    assert torch.allclose(seen[0][0], inner(x), atol=1e-5)  # half the picture's side: all frequencies
    assert torch.allclose(model(x.expand(4, *x.shape)), model(x), atol=1e-5)
    with pytest.raises(ValueError, match="widths for 4 steps, and got a sequence of 3"):
        model(torch.rand(3, 2, 3, 32, 32))
    undo(model, "low_pass")
    assert torch.equal(model(x), before)


def test_low_pass_refuses_in_one_line():
    model = create_model("vgg_small", T=2)
    for widths in ((16,), (16, 8, 4), (16, 0)):
        with pytest.raises(ValueError, match="one for each of T = 2 steps"):
            apply(model, {"name": "low_pass", "config": {"widths": widths}})
    apply(model, "low_pass")
    with pytest.raises(ValueError, match="none yet"):
        apply(model, "low_pass")
    with pytest.raises(ValueError, match="model of pictures"):
        apply(create_model("sma_vgg8_small"), "low_pass")


def test_gradients_go_through_the_encoder():
    model, x = create_model("vgg_small", T=2, num_classes=5), torch.rand(3, 3, 32, 32, requires_grad=True)
    apply(model, "low_pass")
    model(x)[:, 0].sum().backward()
    assert (x.grad != 0).float().mean() > 0.5


def test_an_open_gate_is_the_lif():
    x = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0)) * 2
    lif = LIFConfig(tau=2.0)
    assert torch.equal(GatedLIFConfig(lif=lif).build()(x), lif.build()(x))
    assert torch.equal(GatedLIFConfig(lif=lif).build(channels=6, channel_axis=-1)(x), lif.build()(x))


def test_spikes_pass_with_their_probability_also_at_the_test():
    neuron = GatedLIFConfig(start=0.3, lif=LIFConfig(tau=1.0, v_th=0.5)).build(channels=2, channel_axis=-1).eval()
    neuron.p.data = torch.tensor([0.3, 0.9])
    torch.manual_seed(0)
    share = neuron(torch.ones(10, 5000, 2)).mean((0, 1))
    n = 50000
    for found, p in zip(share.tolist(), (0.3, 0.9), strict=True):
        assert abs(found - p) < 4 * (p * (1 - p) / n) ** 0.5
    assert not torch.equal(neuron(torch.ones(3, 50, 2)), neuron(torch.ones(3, 50, 2)))


def test_the_gate_learns_and_stays_within_its_bounds():
    neuron = GatedLIFConfig(start=0.5).build(channels=3, channel_axis=-1)
    torch.manual_seed(0)
    neuron(torch.full((4, 64, 3), 3.0)).sum().backward()
    assert (neuron.p.grad > 0).all()  # more spikes by opening
    neuron.p.data = torch.tensor([-5.0, 0.5, 7.0])
    rate = neuron(torch.full((4, 20000, 3), 3.0)).detach().mean((0, 1))
    assert rate[0] == pytest.approx(0.1, abs=0.01)
    assert rate[2] == 1
    neuron.keep_channels(torch.tensor([0, 2]))
    assert neuron.p.tolist() == [-5.0, 7.0]
    for wrong in ({"start": 0.05}, {"start": 1.1}, {"temperature": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            GatedLIFConfig(**wrong)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("perturbation", ["gaussian", "fgsm"])
def test_the_perturbation_of_a_last_layer_that_does_not_reset(p, perturbation):
    """Against a line, whose change is known: ``d`` the same in each step, ``e_t = d (1 + decay + ... )``."""
    model, x, y = small()
    model.train()
    step = step_of(model, x, y)
    steps, eps = 3, 0.02
    step.call = lambda images: images.flatten(1)[:, :5].expand(steps, -1, -1)
    step.output = step.call(x)
    one = MembranePerturbation(weight=1.0, share=0.0, decay=0.5, p=p, perturbation=perturbation, eps=eps)
    torch.manual_seed(3)
    changed = one._changed(step)
    d = (changed - x).flatten(1)[:, :5]
    assert d.abs().max() > eps / 2
    expected = sum((scale * d).abs().pow(p).mean() for scale in (1, 1.5, 1.75)) / steps
    torch.manual_seed(3)
    assert float(one.loss(step)) == pytest.approx(float(expected), rel=1e-5)
    if perturbation == "fgsm":
        assert d.abs().max() <= eps + 1e-6
    torch.manual_seed(3)
    half = MembranePerturbation(weight=0.0, share=0.5, perturbation=perturbation, eps=eps).loss(step)
    loss = step.task.plain_loss
    assert float(half) == pytest.approx(0.5 * float(loss(step.call(changed), y) - loss(step.call(x), y)), abs=1e-6)


def test_a_recipe_with_all_of_them(tmp_path):
    found = run(
        parse(
            {
                "name": "test",
                "seed": 0,
                "model": {
                    "name": "vgg_small",
                    "config": {
                        "T": 2,
                        "channels": [4, 6],
                        "pools": [1],
                        "in_channels": 1,
                        "image_size": 8,
                        "num_classes": 10,
                        "neuron": "gated_lif",
                    },
                },
                "data": {"name": "digits", "validation": 100, "train_size": 64, "test_size": 40, "augment": []},
                "train": {"epochs": 1, "batch_size": 32, "optimizer": "adam", "lr": 1e-3, "accelerator": "cpu"},
                "ingredients": ["membrane_perturbation"],
                "stages": [],
            }
        ),
        tmp_path / "run",
        quiet=True,
        report=False,
    )
    assert 0 <= found["test_accuracy"] <= 1
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert any(type(module).__name__ == "GatedLIF" for module in model.modules())
    assert "membrane_perturbation" in (tmp_path / "run" / "recipe.yaml").read_text()
    assert NEURONS["gated_lif"].start == 1.0
