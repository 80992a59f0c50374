"""The checkpoint in the repository is the one that its hash, recipe and results name."""

import hashlib
import json
from pathlib import Path

import pytest

from saccade.experiment import load_recipe
from saccade.files import load_model
from saccade.train import evaluate

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "checkpoints"


def test_hash_and_size():
    for line in (FOLDER / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        content = (FOLDER / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest
        assert len(content) < 500_000


def test_it_scores_what_the_results_say():
    pytest.importorskip("sklearn", reason="the digits need scikit-learn")
    from saccade.data import load

    recipe = load_recipe(FOLDER / "digits.recipe.yaml")
    stored = json.loads((ROOT / "results" / "digits-demo.json").read_text())
    assert recipe.name == stored["recipe"]
    model = load_model(FOLDER / "digits.safetensors")
    test = load("digits", validation=recipe.data.validation, seed=recipe.data.split_seed).test
    found = evaluate(model, test, recipe.task.build(model, test.classes)).metrics
    assert found["total"] == stored["test_total"]
    assert abs(found["correct"] - stored["test_correct"]) <= 2  # another CPU may sum in another order
