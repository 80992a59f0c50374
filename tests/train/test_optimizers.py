"""Optimizers: LAMB against its algorithm worked by hand, and which parameters get what."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from saccade.models import create_model
from saccade.train import TrainSettings
from saccade.train.optimizers import Lamb, build_optimizer, layer_shares
from saccade.transforms import QuantizeConfig, apply


def settings(**changes):
    return TrainSettings(epochs=1, batch_size=8, lr=0.1, accelerator="cpu", **changes)


def by_hand(w, grads, lr, decay, clip):
    """You et al. (2020), algorithm 2, step by step in plain torch."""
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t, g in enumerate(grads, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        r = (m / (1 - 0.9**t)) / (torch.sqrt(v / (1 - 0.999**t)) + 1e-6)
        trust = torch.tensor(1.0, dtype=w.dtype)
        if decay:
            r = r + decay * w
            if w.norm() > 0 and r.norm() > 0:
                trust = w.norm() / r.norm()
            if clip:
                trust = torch.minimum(trust, torch.tensor(1.0, dtype=w.dtype))
        w = w - lr * trust * r
    return w


@pytest.mark.parametrize("decay", [0.0, 0.05])
@pytest.mark.parametrize("clip", [False, True])
def test_lamb_is_its_algorithm(decay, clip):
    torch.manual_seed(0)
    for start in (torch.randn(5, 3, dtype=torch.float64) * 3, torch.zeros(4, dtype=torch.float64)):
        p = nn.Parameter(start.clone())
        optimizer = Lamb([p], lr=0.02, weight_decay=decay, trust_clip=clip)
        grads = [torch.randn_like(start) for _ in range(5)]
        for g in grads:
            p.grad = g.clone()
            optimizer.step()
        assert torch.allclose(p, by_hand(start, grads, 0.02, decay, clip), atol=1e-12)
    with pytest.raises(ValueError, match="0 or more"):
        Lamb([p], lr=-1)


def test_lamb_goes_on_from_its_state():
    torch.manual_seed(0)
    p, grads = nn.Parameter(torch.randn(3, 3)), [torch.randn(3, 3) for _ in range(4)]
    q = nn.Parameter(p.detach().clone())
    first, second = Lamb([p], 0.1, weight_decay=0.1), Lamb([q], 0.1, weight_decay=0.1)
    for g in grads[:2]:
        for optimizer, parameter in ((first, p), (second, q)):
            parameter.grad = g.clone()
            optimizer.step()
    again = Lamb([q], 0.1, weight_decay=0.1)
    again.load_state_dict(second.state_dict())
    for g in grads[2:]:
        for optimizer, parameter in ((first, p), (again, q)):
            parameter.grad = g.clone()
            optimizer.step()
    assert torch.equal(p, q)


@pytest.mark.parametrize("name", ["adam", "adamw", "lamb", "sgd"])
def test_decay_acts_on_weights_alone(name):
    model = create_model("vgg_small")
    optimizer = build_optimizer(model, settings(optimizer=name, weight_decay=0.3))
    decayed, plain = optimizer.param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    assert all(p.dim() > 1 for p in decayed["params"])
    assert all(p.dim() == 1 for p in plain["params"])
    assert len(decayed["params"]) + len(plain["params"]) == len(list(model.parameters()))


def test_the_learning_rate_falls_towards_the_input():
    model = create_model("or_resnet18_small")
    shares = layer_shares(model, 0.5)
    depth = len(model.blocks)
    assert shares["head.weight"] == 1.0
    assert shares[next(name for name, _ in model.named_parameters() if name.startswith(f"blocks.{depth - 1}."))] == 0.5
    assert shares["stem.0.weight"] == 0.5 ** (depth + 1)
    assert set(layer_shares(model, 1.0).values()) == {1.0}
    optimizer = build_optimizer(model, settings(layer_decay=0.5, weight_decay=0.1))
    assert next(group["scale"] for group in optimizer.param_groups) == 1.0
    assert sorted({group["scale"] for group in optimizer.param_groups}) == sorted(set(shares.values()))
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len(set(held)) == len(list(model.parameters()))


def test_the_loop_scales_each_group(make_recipe, tmp_path):
    """With a share that falls a thousandfold a part, the read-out learns and the stem stays where it began."""
    from saccade.experiment import run

    recipe = make_recipe(train__optimizer="lamb", train__layer_decay=1e-3, train__weight_decay=0.01)
    run(recipe, tmp_path / "a", quiet=True, report=False)
    start = load_file(tmp_path / "a" / "checkpoints" / "initial" / "state.safetensors")
    end = load_file(tmp_path / "a" / "model.safetensors")

    def moved(name):
        before = next(value for key, value in start.items() if key.endswith(name))
        return float((end[name] - before).abs().max())

    assert moved("head.weight") > 1e-3
    assert moved("stem.0.weight") < 1e-8


def test_sizes_of_weights_move_relative_to_their_size():
    """Adam's steps are as long as the learning rate: absolute ones would throw learned quantization steps about."""
    torch.manual_seed(0)
    model = create_model("vgg_small", channels=(4,) * 6, T=2, image_size=16)
    apply(model, QuantizeConfig("lsq", 4, steps="channel", skip=()))
    steps = {name: p for name, p in model.named_parameters() if name.endswith("form.step")}
    before = {name: p.detach().clone() for name, p in steps.items()}
    x, y = torch.rand(4, 3, 16, 16), torch.randint(10, (4,))
    moved = {}
    for name in ("adamw", "sgd"):
        optimizer = build_optimizer(model, settings(optimizer=name, weight_decay=0.0))
        for group in optimizer.param_groups:
            group["lr"] *= group["scale"]
        torch.nn.functional.cross_entropy(model(x), y).backward()
        if name == "sgd":
            assert {group["scale"] for group in optimizer.param_groups} == {1.0}
            break
        optimizer.step()
        optimizer.zero_grad()
        moved = {key: ((p - before[key]).abs() / before[key]).max().item() for key, p in steps.items()}
    assert len(moved) == 7
    assert all(0.02 < share < 0.5 for share in moved.values()), moved  # about a tenth of each
