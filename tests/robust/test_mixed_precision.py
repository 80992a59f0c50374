"""Ingredients of training in half precision, where Fabric's wrapper refuses gradients that are not its own."""

import pytest

from saccade.experiment import run
from saccade.train.ingredients import INGREDIENTS

NEEDS = {"membrane_perturbation": {"model__config__neuron": "qp_no_reset"}}


@pytest.mark.filterwarnings("ignore:train.precision")
@pytest.mark.parametrize(
    "name",
    "adversarial_training trades orthogonal_retraction sparse_gradients threshold_guard mpd_sgr membrane_perturbation".split(),
)
def test_every_ingredient_trains_in_mixed_precision(tmp_path, make_recipe, name):
    assert name in INGREDIENTS
    recipe = make_recipe(
        ingredients=[name],
        train__precision="bf16-mixed",
        train__epochs=1,
        data__train_size=64,
        data__test_size=20,
        stages=[],
        **NEEDS.get(name, {}),
    )
    assert run(recipe, tmp_path / "run", quiet=True, report=False)["epochs"] == 1
