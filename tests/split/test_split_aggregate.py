"""Averages of adapters: what is exact is exact, what is a best fit is the best, what is biased is seen to be."""

import pytest
import torch

from saccade.split.aggregate import AGGREGATORS, Share, mean_change

ALPHA = 16.0


def shares(ranks, weights, inputs=20, outputs=24, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [
        Share(torch.randn(r, inputs, generator=g), torch.randn(outputs, r, generator=g), w)
        for r, w in zip(ranks, weights, strict=True)
    ]


def old(rank, inputs=20, outputs=24):
    return torch.randn(rank, inputs, generator=torch.Generator().manual_seed(99)), torch.zeros(outputs, rank)


def change(a, b):
    return ALPHA / a.shape[0] * b.double() @ a.double()


def test_flora_is_the_mean():
    found = shares([4, 2, 3], [0.5, 0.3, 0.2])
    merged = AGGREGATORS["flora"]().merge(found, old(4), ALPHA)
    torch.testing.assert_close(merged.change.double(), mean_change(found, ALPHA), rtol=1e-6, atol=1e-5)
    assert torch.equal(merged.a, old(4)[0])
    assert not merged.b.any()


@pytest.mark.parametrize("rank", [1, 3, 4, 9])
def test_flexlora_is_the_best_fit_of_its_rank(rank):
    found = shares([4, 2, 3], [0.5, 0.3, 0.2])
    want = mean_change(found, ALPHA)
    merged = AGGREGATORS["flexlora"]().merge(found, old(rank), ALPHA)
    tail = torch.linalg.svdvals(want)[rank:].square().sum().sqrt()
    error = (change(merged.a, merged.b) - want).norm()
    assert error == pytest.approx(float(tail), rel=1e-4, abs=1e-4)
    assert merged.lost == pytest.approx(float(tail / want.norm()), rel=1e-4, abs=1e-7)
    smaller = AGGREGATORS["flexlora"]().hand_out(merged.a, merged.b, 1, ALPHA)  # and of every smaller rank
    best = torch.linalg.svdvals(want)[1:].square().sum().sqrt()
    assert (change(*smaller) - want).norm() == pytest.approx(float(best), rel=1e-4)


def test_flexlora_leaves_no_dead_component():
    """Where the mean has a lower rank than the adapters, A still has rows: B can grow."""
    for found in (shares([2], [1.0]), [Share(old(4)[0], torch.zeros(24, 4), 1.0)]):
        merged = AGGREGATORS["flexlora"]().merge(found, old(4), ALPHA)
        assert torch.linalg.matrix_rank(merged.a) == 4
        torch.testing.assert_close(change(merged.a, merged.b), mean_change(found, ALPHA), rtol=1e-5, atol=1e-5)


def test_mean_of_factors_is_another_matrix():
    found = shares([4, 4], [0.5, 0.5])
    merged = AGGREGATORS["fedit"]().merge(found, old(4), ALPHA)
    want = mean_change(found, ALPHA)
    assert (change(merged.a, merged.b) - want).norm() > 0.3 * want.norm()
    with pytest.raises(ValueError, match=r"equal ranks only.*\[2, 4\]"):
        AGGREGATORS["fedit"]().merge(shares([4, 2], [0.5, 0.5]), old(4), ALPHA)


def test_hetlora_keeps_one_clients_change_whatever_its_rank():
    """One client: a mean of one. The scale alpha / r of a smaller rank must not be lost on the way, nor on the way
    back."""
    rule = AGGREGATORS["hetlora"]()
    found = shares([2], [1.0])
    merged = rule.merge(found, old(4), ALPHA)
    torch.testing.assert_close(change(merged.a, merged.b), change(found[0].a, found[0].b))
    a, b = rule.hand_out(merged.a, merged.b, 2, ALPHA)
    torch.testing.assert_close(a, found[0].a)
    torch.testing.assert_close(b, found[0].b)


def test_ffa_is_exact_for_a_common_a():
    a, _ = old(4)
    g = torch.Generator().manual_seed(1)
    found = [Share(a[:r].clone(), torch.randn(24, r, generator=g), w) for r, w in ((4, 0.75), (2, 0.25))]
    merged = AGGREGATORS["ffa"]().merge(found, old(4), ALPHA)
    torch.testing.assert_close(change(merged.a, merged.b), mean_change(found, ALPHA), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", list(AGGREGATORS))
def test_equal_clients_stay_as_they_are(name):
    a, _ = old(4)
    b = torch.randn(24, 4, generator=torch.Generator().manual_seed(3))
    merged = AGGREGATORS[name]().merge([Share(a, b, w) for w in (0.25, 0.5, 0.25)], old(4), ALPHA)
    got = merged.change.double() if merged.change is not None else change(merged.a, merged.b)
    torch.testing.assert_close(got, change(a, b), rtol=1e-5, atol=1e-5)
