"""What the page of attacks shows: distances, flips by distance, curves, and the page itself."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from test_attacks import small
from torch import nn

from saccade.cli.main import run
from saccade.neurons import LIFConfig
from saccade.report.robust_look import look_page
from saccade.robust import looks
from saccade.robust.looks import look
from saccade.robust.statistics import flips, flips_by_distance, near_threshold_fraction


class Fires(nn.Module):
    def __init__(self, v_th=1.0):
        super().__init__()
        self.neuron = LIFConfig(tau=1.0, v_th=v_th).build(channels=4, channel_axis=-1)

    def forward(self, x):
        return self.neuron(x.expand(2, *x.shape)).mean(0)


def test_flips_and_shares_near_the_threshold():
    x, moved = torch.tensor([[0.2, 1.4, 0.9, 3.0]]), torch.tensor([[0.2, 1.4, 1.1, 3.0]])
    assert flips(Fires(), x, moved)["neuron"].tolist() == [[[False, False, True, False]]] * 2
    assert near_threshold_fraction(Fires(), x) == {"neuron": 0.25}
    assert near_threshold_fraction(Fires(), x, band=0.5) == {"neuron": 0.5}
    assert near_threshold_fraction(Fires((0.3, 1.0, 1.0, 1.0)), x) == {"neuron": 0.5}  # a threshold a channel
    rows = flips_by_distance(Fires(), x, moved, edges=(0, 0.15, 0.5, 10))["neuron"]
    assert rows["count"] == [2, 2, 4]
    assert rows["flipped"] == [1, 0, 0]
    s = math.sqrt(0.2**2 / 4)
    expected = [0.5 * (1 + math.erf(-d / s / math.sqrt(2))) for d in (0.1, 0.4)]
    assert rows["theory"][:2] == pytest.approx(expected, abs=1e-6)
    assert math.isnan(flips_by_distance(Fires(), x, moved, edges=(20, 30))["neuron"]["flipped"][0])


def test_theory_holds_for_normal_changes():
    torch.manual_seed(0)
    x = torch.randn(4000, 4) + 1
    rows = flips_by_distance(Fires(), x, x + 0.3 * torch.randn_like(x))["neuron"]
    for count, found, theory in zip(rows["count"], rows["flipped"], rows["theory"], strict=True):
        assert abs(found - theory) < 4 * math.sqrt(theory * (1 - theory) / (count / 2)) + 0.01


def test_a_look_and_its_page():
    model, x, y = small()
    y = model(x).argmax(1)
    found = look(model, x, y, 0.05, attacks=("fgsm", "pgd10"), budgets=(1, 5), points=5)
    assert found["over_eps"]["fgsm"][0] == 1
    assert all(b <= a for a, b in zip(found["over_eps"]["pgd10"], found["over_eps"]["pgd10"][1:], strict=False))
    assert [len(v) for v in found["over_eps"].values()] == [len(found["epsilons"])] * 2
    (g1, one), (g5, five) = found["over_budget"]
    assert g1 <= g5
    assert five <= one
    at = found["shown"]["number"]
    with torch.no_grad():
        z = model(x[at : at + 1])[0]
    middle = z[torch.arange(len(z)) != y[at]].max() - z[y[at]]
    assert found["surface"][2, 2] == pytest.approx(float(middle), abs=1e-5)
    assert np.abs(found["shown"]["attacked"] - found["shown"]["image"]).max() <= 0.05 + 1e-6
    page = look_page("a <b> network", found)
    assert "a &lt;b&gt; network" in page
    assert page.count("<svg") == 4
    assert "mathdefault" not in page
    with pytest.raises(ValueError, match="none of these images right"):
        look(model, x, (y + 1) % 5, 0.05, attacks=("fgsm",), budgets=(1,), points=3)


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(looks, "look", partial(look, attacks=("fgsm",), budgets=(1,), points=3))
    out, model = tmp_path / "look.html", str(Path(__file__).parents[2] / "checkpoints" / "digits.safetensors")
    assert (
        run(["robust", "look", model, "--set-name", "digits", "--eps", "0.1", "--images", "2", "--out", str(out)]) == 0
    )
    assert "Accuracy over budget" in out.read_text()
