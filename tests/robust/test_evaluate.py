"""Evaluations: tables, files that are gone on with, and defects that the masking report has to see."""

import json

import pytest
import torch
from test_attacks import Small, small
from torch import nn

from saccade.robust.attacks.fgsm import FGSM
from saccade.robust.attacks.pgd import PGD
from saccade.robust.attacks.square import Square
from saccade.robust.evaluate import PRESETS, evaluate
from saccade.robust.masking import masking_report

SHORT = {"fgsm": FGSM(), "pgd": PGD(steps=10), "square": Square(queries=100)}


def test_a_table_and_its_file(tmp_path):
    model, x, y = small()
    target = tmp_path / "found.json"
    told = []
    record = evaluate(model, x, y, attacks=SHORT, eps=0.02, batch=5, out=target, tell=told.append)
    assert record["clean"]["right"] == 12
    rights = {name: row["right"] for name, row in record["attacks"].items()}
    assert record["worst"]["right"] <= min(rights.values())
    assert record["worst"]["low"] <= record["worst"]["accuracy"] <= record["worst"]["high"]
    assert record["attacks"]["fgsm"]["success"] == pytest.approx(1 - rights["fgsm"] / 12)
    assert len(record["masking"]) >= 7
    state = json.loads(target.read_text())
    assert all(len(done["robust"]) == 12 for done in state["attacks"].values())
    before = len(told)
    again = evaluate(model, x, y, attacks=SHORT, eps=0.02, batch=5, out=target, tell=told.append)
    assert again == record
    assert len(told) == before  # nothing was computed


def test_a_stopped_evaluation_goes_on(tmp_path):
    model, x, y = small()
    whole = evaluate(model, x, y, attacks=SHORT, eps=0.02, batch=4, masking=False)

    def stop(words):
        if words.startswith("pgd: 8"):
            raise KeyboardInterrupt

    target = tmp_path / "found.json"
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, x, y, attacks=SHORT, eps=0.02, batch=4, masking=False, out=target, tell=stop)
    assert len(json.loads(target.read_text())["attacks"]["pgd"]["robust"]) == 8
    after = evaluate(model, x, y, attacks=SHORT, eps=0.02, batch=4, masking=False, out=target)
    for name, row in whole["attacks"].items():
        assert after["attacks"][name]["right"] == row["right"]
        assert after["attacks"][name]["gradients_per_image"] == row["gradients_per_image"]
    assert after["worst"] == whole["worst"]


def test_files_of_others_are_refused(tmp_path):
    model, x, y = small()
    target = tmp_path / "found.json"
    evaluate(model, x, y, attacks={"fgsm": FGSM()}, masking=False, out=target)
    other, *_ = small()
    with torch.no_grad():
        other.head.bias.add_(1)
    with pytest.raises(ValueError, match="belongs to an evaluation with other model"):
        evaluate(other, x, y, attacks={"fgsm": FGSM()}, masking=False, out=target)
    with pytest.raises(ValueError, match="with other images"):
        evaluate(model, x[:4], y[:4], attacks={"fgsm": FGSM()}, masking=False, out=target)
    with pytest.raises(ValueError, match="with other settings"):
        evaluate(model, x, y, attacks={"fgsm": FGSM()}, eps=0.1, masking=False, out=target)
    target.write_text("no")
    with pytest.raises(ValueError, match="no evaluation of saccade, or a damaged one"):
        evaluate(model, x, y, attacks={"fgsm": FGSM()}, masking=False, out=target)
    with pytest.raises(ValueError, match="a preset is one of quick, standard, full"):
        evaluate(model, x, y, attacks="strong")
    with pytest.raises(ValueError, match="needs images"):
        evaluate(model, x[:0], y[:0])
    assert set(PRESETS["quick"]) < set(PRESETS["full"]) | {"pgd10"}


def test_other_forms_see_the_same_images():
    model, x, y = small()
    also = {"itself": model, "sure": lambda z: nn.functional.one_hot(y_of(z, x, y), 5)}
    found = evaluate(model, x, y, attacks=SHORT, eps=0.02, masking=False, also=also)
    assert found["also"]["itself"]["worst"]["right"] == found["worst"]["right"]
    assert found["also"]["sure"]["worst"]["right"] == 12


def y_of(z, x, y):
    """Labels by the nearest image."""
    return y[(z.flatten(1)[:, None] - x.flatten(1)[None]).norm(dim=-1).argmin(1)]


class Dead(Small):
    """No gradient reaches the images."""

    def forward(self, x):
        return super().forward(x.detach()) + 0 * x.sum()


class Grey(Small):
    """Pixels of eight levels."""

    def forward(self, x):
        return super().forward((x * 7).round() / 7)


class Loud(Small):
    """Logits times 10,000."""

    def forward(self, x):
        return 1e4 * super().forward(x)


class Leaking(Small):
    """What it saw before changes what it says."""

    def forward(self, x):
        before = getattr(self, "before", 0.0)
        self.before = float(x.detach().mean())
        return super().forward(x) + before * torch.arange(5)


class Drawn(Small):
    """Noise that is there when it is attacked."""

    def forward(self, x):
        return super().forward((x + 0.3 * torch.randn_like(x)).clamp(0, 1))


def trained(kind):
    """The weights of ``small``, in a network of another kind."""
    model, x, y = small()
    other = kind().eval()
    other.load_state_dict(model.state_dict())
    return other, x, y


@pytest.mark.parametrize(
    ("kind", "alarm"),
    [(Dead, "zero_gradients"), (Grey, "zero_gradients"), (Loud, "logits_too_large"), (Leaking, "same_twice")],
)
def test_planted_defects_are_seen(kind, alarm):
    model, x, y = trained(kind)
    found = {check.name: check for check in masking_report(model, x, y, 0.02)}
    assert found[alarm].alarm
    assert "\n" not in found[alarm].words


def test_noise_that_hides_is_seen():
    model, x, y = trained(Drawn)
    record = evaluate(model, x, y, attacks={"pgd": PGD(steps=5)}, eps=0.02)
    noise = next(check for check in record["masking"] if check["name"] == "noise")
    assert set(noise["value"]) == {"1", "5", "20"}
    assert record["settings"]["draws"] == 20
    assert next(check for check in record["masking"] if check["name"] == "same_twice")["value"] == "noise"


def test_an_honest_network_is_not_accused():
    model, x, y = small()
    checks = masking_report(model, x, y, 0.02)
    assert [check.name for check in checks if check.alarm] == []
