"""Relevance of spikes: what the three kinds are, and how they rank keys and queries."""

import math

import pytest
import torch

from saccade.measure import relevance

D = 20


def spikes(counts):
    """[D, N] with that many ones a column."""
    return (torch.arange(D)[:, None] < torch.tensor(counts)[None, :]).double()


def test_by_hand():
    q, k = spikes([4, 10]), spikes([5, 15, 20])
    assert relevance(q, k).tolist() == [[4, 4, 4], [5, 10, 10]]
    assert relevance(q, k, "croatt").tolist() == [[20, 60, 80], [50, 150, 200]]
    first = 0.2 * math.log(0.25)
    assert relevance(q, k, "ce_spikes")[0, 0].item() == pytest.approx(first)
    assert relevance(q, k, "ce")[0, 0].item() == pytest.approx(first + 0.8 * math.log(0.75))
    assert relevance(q, k, "ce").isfinite().all()  # the last key fires everywhere


def test_cross_entropy_is_the_one_of_torch():
    q, k = spikes([4, 10]), spikes([5, 15])
    expected = [
        [
            -torch.nn.functional.binary_cross_entropy(k[:, j].mean(), q[:, i].mean(), reduction="sum").item()
            for j in range(2)
        ]
        for i in range(2)
    ]
    assert torch.allclose(relevance(q, k, "ce"), torch.tensor(expected).double())


def test_croatt_has_rank_one_and_row_sums_of_a_count_times_a_gain():
    generator = torch.Generator().manual_seed(0)
    q, k = ((torch.rand(3, D, 30, generator=generator) < 0.3).double() for _ in range(2))
    found = relevance(q, k, "croatt")
    assert (torch.linalg.matrix_rank(found) == 1).all()
    assert torch.equal(found.sum(-1), q.sum(-2) * k.sum((-2, -1))[:, None])
    shuffled = k[..., torch.randperm(30, generator=generator)]
    assert torch.equal(relevance(q, shuffled, "croatt").sum(-1), found.sum(-1))


def test_keys_are_ranked_alike_and_queries_the_other_way():
    counts = list(range(1, D))
    entropy, croatt = (relevance(spikes(counts), spikes(counts), kind) for kind in ("ce_spikes", "croatt"))
    for i in range(len(counts)):
        assert torch.equal(entropy[i].argsort(), croatt[i].argsort())
        assert torch.equal(entropy[:, i].argsort(), croatt[:, i].argsort().flip(0))


def test_dot_products_of_spikes_whose_rates_vary_scatter_more_than_products_of_their_counts():
    """The argument that saccadic attention begins with: standard deviation over mean of all pairs, in each of 20 draws."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        rates = torch.rand(2, 1, 64, generator=generator) * 0.4 + 0.05
        q, k = (torch.rand(2, 32, 64, generator=generator) < rates).double()
        dot, counts = relevance(q, k), relevance(q, k, "croatt")
        assert dot.std() / dot.mean() > counts.std() / counts.mean()


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="kind must be one of dot, ce, ce_spikes, croatt, got 'cosine'"):
        relevance(spikes([1]), spikes([1]), "cosine")
    with pytest.raises(ValueError, match=r"do not fit: \[20, 1\] and \[19, 1\]"):
        relevance(spikes([1]), spikes([1])[1:])
