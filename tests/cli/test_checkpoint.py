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


@pytest.mark.parametrize("network", ["cifar10", "cifar10-compact"])
def test_the_cifar10_networks_name_pictures(network, tmp_path, capsys):
    """As packed file and as program, on a picture of any size: the same class, by name."""
    import numpy as np
    from PIL import Image

    from saccade.cli.main import run
    from saccade.deploy import load_program

    picture = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(picture)
    assert run(["deploy", "run", str(FOLDER / f"{network}.sacc"), str(picture), "--json"]) == 0
    by_program = json.loads(capsys.readouterr().out)[0]
    assert run(["predict", str(FOLDER / f"{network}.safetensors"), str(picture), "--json"]) == 0
    by_model = json.loads(capsys.readouterr().out)
    assert by_program["name"] in load_program(FOLDER / f"{network}.sacc").classes
    assert by_program["name"] in json.dumps(by_model)
    for name in (f"{network}.sacc", f"{network}.safetensors"):
        assert (FOLDER / name).stat().st_size <= 300_000
