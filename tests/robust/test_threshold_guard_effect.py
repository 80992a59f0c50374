"""What threshold guarding does to potentials in a training, where the fact sheets found it safe to claim: not to accuracy."""

import torch

from saccade.data import load
from saccade.experiment import run
from saccade.files import load_model
from saccade.robust import attack
from saccade.robust.statistics import flip_rate, near_threshold_fraction


def mean(values):
    return sum(values.values()) / len(values)


def test_fewer_potentials_near_the_threshold_and_fewer_flips(tmp_path, make_recipe):
    test = load("digits", validation=100).test
    x, y = test.__getitems__(list(range(100)))
    x = x.float() / 255 if not x.is_floating_point() else x
    near, flipped = [], []
    for name, ingredients in (("plain", []), ("guarded", [{"name": "threshold_guard", "config": {"weight": 10.0}}])):
        model = {
            "name": "vgg_small",
            "config": {
                "T": 4,
                "neuron": "rat",
                "in_channels": 1,
                "image_size": 8,
                "channels": [16, 16, 32],
                "pools": [2],
            },
        }
        recipe = make_recipe(ingredients=ingredients, model=model, train__epochs=8, data__train_size=1024, stages=[])
        run(recipe, tmp_path / name, quiet=True, report=False)
        model = load_model(tmp_path / name / "model.safetensors").eval()
        found = attack(model, x, y, "pgd10", 0.1).images
        near.append(mean(near_threshold_fraction(model, x)))
        flipped.append(mean(flip_rate(model, x, found)))
    assert near[1] < 0.9 * near[0]
    assert flipped[1] < flipped[0]
    assert torch.isfinite(torch.tensor(near + flipped)).all()
