"""Queries, keys and values that learn from a teacher's: distances by hand, what they do not see, a twin of many levels."""

import contextlib

import pytest
import torch
from small_models import narrow

from saccade.compress import distill
from saccade.compress.fine_grained import mse_distance, similarity_distance
from saccade.layers.attention.base import attention_parts
from saccade.models import create_model
from saccade.transforms import QuantizeConfig, apply
from saccade.verify import wake


def maps(seed=0, channels=6):
    return torch.randn(2, 3, channels, 3, 4, generator=torch.Generator().manual_seed(seed))


def test_similarities_by_hand():
    """The L x L matrices, made."""
    teacher, student = maps(), maps(1)

    def grams(x):
        tokens = x.view(2, 3, 2, 3, 12).transpose(-1, -2)
        g = tokens @ tokens.transpose(-1, -2)
        return g / torch.linalg.matrix_norm(g, keepdim=True)

    by_hand = (grams(teacher) - grams(student)).square().sum((-1, -2)).mean()
    assert torch.allclose(similarity_distance(teacher, student, 2), by_hand, rtol=1e-4)


@pytest.mark.parametrize("distance", [similarity_distance, mse_distance])
def test_nothing_to_learn_from_oneself_at_any_scale(distance):
    x, other = maps(), maps(1)
    assert distance(x, x, 2).item() == pytest.approx(0, abs=1e-6)
    assert distance(x, 7 * x, 2).item() == pytest.approx(0, abs=1e-4)
    assert distance(x, other, 2) > 0.1


def test_similarities_know_no_turn_and_no_number_of_channels():
    x = maps()
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2)))[0]
    turned = torch.einsum("ab,tnhbyx->tnhayx", turn, x.view(2, 3, 2, 3, 3, 4)).flatten(2, 3)
    assert similarity_distance(x, turned, 2).item() == pytest.approx(0, abs=1e-5)
    assert mse_distance(x, turned, 2) > 0.1
    assert similarity_distance(x, maps(1, 10), 2) > 0


def test_silent_heads():
    silent = torch.zeros_like(maps()).requires_grad_()
    found = similarity_distance(maps(), silent, 2)
    assert found.item() == pytest.approx(1)
    found.backward()
    assert silent.grad.isfinite().all()
    assert similarity_distance(silent, silent, 2).item() == 0


def twins():
    """A network of many levels and full weights, and one of four levels and four bits."""
    teacher, x = narrow("qsd_small", T=1, neuron={"name": "ie_lif", "config": {"D": 255}})
    torch.manual_seed(1)
    student, _ = narrow("qsd_small", T=1)
    apply(student, QuantizeConfig("lsq", 4, steps="channel", skip=()))
    for model in (teacher.eval(), student.eval()):
        wake(model, x)
    return teacher, student, x


@pytest.mark.parametrize("form", ["similarity", "mse"])
def test_learning_from_the_twin(form):
    teacher, student, x = twins()
    assert len(attention_parts(student)) == 6
    extra = distill(student, teacher, "fgd", weight=2.0, form=form)
    optimizer = torch.optim.Adam(student.parameters(), 3e-3)
    student.train()
    found = []
    for _ in range(15):
        with extra(x, contextlib.nullcontext) as more:
            loss = more(student(x, steps=True))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    assert min(found[-3:]) < 0.8 * found[0]
    assert all(p.grad is None for p in teacher.parameters())


def test_pairs_that_do_not_go_together():
    teacher, student, x = twins()
    with pytest.raises(ValueError, match="form must be one of similarity, mse, got 'cosine'"):
        distill(student, teacher, "fgd", form="cosine")
    with pytest.raises(ValueError, match="Vgg has no attention"):
        distill(create_model("vgg_small", T=1), create_model("vgg_small", T=1), "fgd")
    deeper, _ = narrow("qsd_small", T=1, depths=(1, 1, 1, 2, 1))
    with pytest.raises(ValueError, match=r"the teacher has 9 with heads \[2\], the student 6 with heads \[2\]"):
        distill(student, deeper, "fgd")
    wider, _ = narrow("qsd_small", T=1, widths=(4, 6, 12, 10))
    with distill(student, wider, "fgd")(x, contextlib.nullcontext) as more:
        assert more(student(x, steps=True)) > 0
    with (
        distill(student, wider, "fgd", form="mse")(x, contextlib.nullcontext) as more,
        pytest.raises(ValueError, match="differ in time, batch or places"),
    ):
        more(student(x, steps=True))
