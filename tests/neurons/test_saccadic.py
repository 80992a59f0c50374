"""The saccadic neuron: causal, exact against decoupled, and where the two must differ."""

import pytest
import torch

from saccade.neurons import SaccadicConfig


def neuron(matrix, theta, **changes):
    T = len(theta)
    layer = SaccadicConfig(T=T, **changes).build().double().eval()
    with torch.no_grad():
        layer.entries.copy_(torch.tensor(matrix).double()[tuple(torch.tril_indices(T, T))])
        layer.theta.copy_(torch.tensor(theta).double())
    return layer


def test_it_starts_near_the_identity_and_is_lower_triangular():
    matrix = SaccadicConfig(T=3, spread=0.2).build().mixing(3)
    assert torch.allclose(matrix, torch.tensor([[1, 0, 0], [0.2, 1, 0], [0.2, 0.2, 1]]))


def test_two_counter_examples_by_hand():
    """M = [[1, 0], [1/2, 1]], thresholds (1, 1): decoupled thresholds are (1, 1/2)."""
    layer = neuron([[1.0, 0.0], [0.5, 1.0]], [1.0, 1.0])
    assert layer.thresholds().tolist() == [1.0, 0.5]
    for given, exact, decoupled in (((4.0, 0.0), [1, 1], [1, 0]), ((0.0, 0.6), [0, 0], [0, 1])):
        x = torch.tensor(given).double().view(2, 1, 1)
        assert layer(x).flatten().tolist() == exact
        assert layer.decoupled(x).flatten().tolist() == decoupled
        assert layer.mismatch(x) == 0.5


def test_a_positive_diagonal_makes_the_two_forms_one():
    layer = neuron([[0.5, 0, 0], [0, 2.0, 0], [0, 0, 1.5]], [0.2, 1.0, 0.4])
    x = torch.randn(3, 50, 20, generator=torch.Generator().manual_seed(0)).double()
    assert layer.mismatch(x) == 0
    assert 0.1 < layer(x).mean() < 0.9


def test_some_bits_differ_in_general():
    """A random lower triangle of entries in [0, 0.3] flips a few per cent."""
    generator = torch.Generator().manual_seed(0)
    matrix = (torch.rand(4, 4, generator=generator) * 0.3).tril(-1) + torch.eye(4)
    layer = neuron(matrix.tolist(), [1.0] * 4)
    x = torch.randn(4, 500, 8, generator=generator).double().abs()
    assert 0.005 < layer.mismatch(x) < 0.2


def test_decoupled_inference_is_a_choice_of_eval_mode():
    layer = neuron([[1.0, 0.0], [0.5, 1.0]], [1.0, 1.0], inference="decoupled")
    x = torch.tensor([4.0, 0.0]).double().view(2, 1, 1)
    assert layer(x).flatten().tolist() == [1, 0]
    assert layer.train()(x).flatten().tolist() == [1, 1]


def test_a_vanishing_diagonal_is_no_division_by_zero():
    assert neuron([[0.0, 0.0], [0.5, 1.0]], [1.0, 1.0]).thresholds().isfinite().all()


def test_later_steps_change_nothing_before_them():
    layer = SaccadicConfig(T=4, v_th=0.5).build().double().eval()
    x = torch.randn(4, 3, 30, generator=torch.Generator().manual_seed(0)).double()
    changed = x.clone()
    changed[2:] += 3
    before, after = layer(x), layer(changed)
    assert torch.equal(before[:2], after[:2])
    assert not torch.equal(before[2:], after[2:])


def test_gradients_reach_the_mixing_and_the_input():
    layer = SaccadicConfig(T=3, v_th=0.3).build()
    x = torch.rand(3, 2, 10).requires_grad_()
    layer(x).sum().backward()
    assert layer.entries.grad.abs().min() > 0
    assert x.grad.abs().sum() > 0


def test_settings_are_checked():
    with pytest.raises(ValueError, match="inference must be one of exact, decoupled"):
        SaccadicConfig(inference="other")
    with pytest.raises(ValueError, match="built for T = 2 got a sequence of T = 3"):
        SaccadicConfig(T=2).build()(torch.zeros(3, 1, 1))
