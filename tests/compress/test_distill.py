"""Gram matrices and what they are blind to; who learns from a teacher, and who is refused."""

import contextlib

import pytest
import torch

from saccade.compress import distill, feature_distance, gram
from saccade.layers import set_recompute
from saccade.models import create_model
from saccade.neurons import LIF, LIFConfig, recording
from saccade.neurons.surrogate import Rectangle
from saccade.verify import wake

TINY = {"channels": (4, 6, 6, 8, 8, 8), "T": 2}


def features(seed=0, shape=(3, 5, 4, 2, 2)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("norm", ["frobenius", "rows", "spectral"])
def test_gram_matrices(norm):
    g = gram(features(), norm).double()
    assert g.shape == (3, 5, 5)
    if norm == "frobenius":
        assert torch.allclose(g.flatten(1).norm(dim=1), torch.ones(3).double(), atol=1e-6)
    if norm != "rows":
        assert torch.allclose(g, g.mT)
        assert torch.linalg.eigvalsh(g).min() > -1e-6
    else:
        assert torch.allclose(g.norm(dim=2), torch.ones(3, 5).double(), atol=1e-6)
    turn = torch.linalg.qr(features(1, (16, 16)))[0]
    turned = (features().flatten(2) @ turn).unflatten(2, (4, 2, 2))
    assert torch.allclose(gram(3.7 * features(), norm), gram(features(), norm), atol=1e-6)
    assert torch.allclose(gram(turned, norm), gram(features(), norm), atol=1e-6)
    assert not torch.allclose(gram(features(2), norm), gram(features(), norm), atol=1e-2)


def test_layers_need_not_be_alike_with_gram():
    a, b = features(), features(1, (3, 5, 7, 3, 3))
    assert feature_distance([a, b], [a, b]) == 0
    assert feature_distance([a], [b]) > 0
    with pytest.raises(
        ValueError, match=r"without Gram matrices layers must be alike: \[3, 5, 4, 2, 2\], \[3, 5, 7, 3, 3\]"
    ):
        feature_distance([a], [b], use_gram=False)
    with pytest.raises(ValueError, match="differ in time or batch"):
        feature_distance([a], [features(0, (2, 5, 4, 2, 2))])
    assert feature_distance([a], [a + 1], use_gram=False) == pytest.approx(1.0)


def test_mean_over_layers_and_steps():
    a, b = [features(0), features(1)], [features(2), features(3)]
    by_hand = sum((gram(x) - gram(y)).square().sum((1, 2)).mean() for x, y in zip(a, b, strict=True)) / 2
    assert torch.allclose(feature_distance(a, b), by_hand.float())


def test_silent_neurons_learn_from_potentials_and_not_from_spikes():
    """Far below the threshold a surrogate window is empty; a potential has none in its way."""
    config = LIFConfig(tau=2.0, surrogate=Rectangle(0.5), v_th=50.0)
    layer, teacher = torch.nn.Sequential(LIF(config)), features().float()
    x = features(4).float().requires_grad_()
    with recording(layer) as kept:
        spikes = layer(x)
    assert spikes.sum() == 0
    (potentials,) = kept["0"]
    feature_distance([teacher], [potentials]).backward(retain_graph=True)
    assert x.grad.abs().sum() > 0
    x.grad = None
    feature_distance([teacher.mean(0, keepdim=True)], [spikes.mean(0, keepdim=True)]).backward()
    assert x.grad.abs().sum() == 0


def pair():
    torch.manual_seed(0)
    teacher, student = (
        create_model("vgg_small", **TINY),
        create_model("vgg_small", **TINY | {"channels": (4, 4, 4, 4, 4, 4)}),
    )
    x = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    wake(teacher.eval(), x)
    wake(student.eval(), x)
    return teacher, student, x


@pytest.mark.parametrize("method", ["mpfd", "rates", "logits"])
def test_learning_from_a_teacher_brings_the_student_nearer(method):
    teacher, student, x = pair()
    extra = distill(student, teacher, method, weight=2.0)
    assert not any(p.requires_grad for p in teacher.parameters())
    optimizer = torch.optim.Adam(student.parameters(), 3e-3)
    student.train()
    found = []
    for _ in range(12):
        with extra(x, contextlib.nullcontext) as more:
            loss = more(student(x, steps=True))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    assert found[0] > 0
    assert min(found[-3:]) < 0.8 * found[0]
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("method", ["mpfd", "rates", "logits"])
def test_a_twin_has_nothing_to_learn(method):
    teacher, _, x = pair()
    twin = create_model("vgg_small", **TINY).eval()
    twin.load_state_dict(teacher.state_dict())
    with distill(twin, teacher, method)(x, contextlib.nullcontext) as more:
        assert more(twin(x, steps=True)).item() == pytest.approx(0, abs=1e-6)


def test_weights_scale_the_loss():
    teacher, student, x = pair()
    found = []
    for weight in (1.0, 3.0):
        with distill(student, teacher, weight=weight)(x, contextlib.nullcontext) as more:
            found.append(more(student(x, steps=True)).item())
    assert found[1] == pytest.approx(3 * found[0], rel=1e-5)


def test_the_teacher_follows_the_images():
    """A student may move to another device after the lesson was arranged."""
    teacher, student, x = pair()
    extra = distill(student, teacher)
    with contextlib.suppress(RuntimeError), extra(x.to("meta"), contextlib.nullcontext):  # meta stands for a GPU
        pass
    assert next(teacher.parameters()).device.type == "meta"


def test_bad_pairs():
    teacher, student, _ = pair()
    with pytest.raises(ValueError, match="cannot be its own teacher"):
        distill(student, student)
    blocks = create_model("resnet19", widths=(4, 4, 4), T=2)
    set_recompute(blocks, True)
    with pytest.raises(ValueError, match="watches inside blocks"):
        distill(blocks, create_model("resnet19", widths=(4, 4, 4), T=2))
    with pytest.raises(ValueError, match="unknown distillation 'hints'; known: mpfd, rates, logits, fgd"):
        distill(student, teacher, "hints")
    with pytest.raises(ValueError, match="norm must be one of frobenius, rows, spectral, got 'max'"):
        distill(student, teacher, norm="max")
    with pytest.raises(ValueError, match="the teacher knows 10 classes, the student 3"):
        distill(create_model("vgg_small", num_classes=3, **TINY), teacher)
    with pytest.raises(ValueError, match="the teacher has 2 steps, the student 4"):
        distill(create_model("vgg_small", T=4), teacher)
    with pytest.raises(ValueError, match="pairs neuron layers in order: the teacher has 6, the student"):
        distill(create_model("or_resnet18_small", T=2), teacher)
