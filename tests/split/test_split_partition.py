"""Sharing text by length: nothing lost, nothing twice, and as uneven as alpha says."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.split.partition import length_dirichlet, partition_report

LENGTHS = np.random.default_rng(0).lognormal(4, 1, 2000).astype(int) + 1


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 500), min_size=30, max_size=120),
    clients=st.integers(1, 6),
    alpha=st.sampled_from([0.05, 0.5, 5.0, math.inf]),
    classes=st.integers(1, 12),
    mode=st.sampled_from(["per_class", "per_client"]),
    seed=st.integers(0, 9),
)
def test_disjoint_complete_and_repeatable(lengths, clients, alpha, classes, mode, seed):
    parts = length_dirichlet(lengths, clients, alpha, classes, mode, seed, 0)
    assert sorted(i for part in parts for i in part) == list(range(len(lengths)))
    assert parts == length_dirichlet(lengths, clients, alpha, classes, mode, seed, 0)
    assert len(parts) == clients
    if mode == "per_client":
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_nobody_gets_less_than_promised():
    for seed in range(5):
        parts = length_dirichlet(LENGTHS, 10, 0.3, min_size=40, seed=seed)
        assert min(map(len, parts)) >= 40
    assert min(map(len, length_dirichlet(LENGTHS, 10, 0.3, min_size=0, seed=0))) < 100


@pytest.mark.parametrize("mode", ["per_class", "per_client"])
def test_divergence_falls_with_alpha(mode):
    def mean(alpha):
        return np.mean(
            [
                partition_report(LENGTHS, length_dirichlet(LENGTHS, 5, alpha, mode=mode, seed=s))[
                    "mean_divergence_bits"
                ]
                for s in range(5)
            ]
        )

    found = [mean(alpha) for alpha in (0.1, 1.0, 100.0, math.inf)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 5 * found[2]
    assert found[-1] < 0.001


def test_report_of_a_known_case():
    report = partition_report([1, 1, 9, 9], [[0, 1], [2, 3]], classes=2)
    assert [row["mean_length"] for row in report["clients"]] == [1, 9]
    assert [row["tokens"] for row in report["clients"]] == [2, 18]
    # p = (1, 0), q = (1/2, 1/2): half of log2(4/3) and of (log2(2/3) + log2(2)) / 2
    want = (math.log2(4 / 3) + (math.log2(2 / 3) + 1) / 2) / 2
    assert report["mean_divergence_bits"] == pytest.approx(want)


def test_impossible_settings_are_refused():
    for wrong, words in [
        ({"clients": 0}, "too few"),
        ({"clients": 3, "min_size": 9}, "too few"),
        ({"alpha": 0.0}, "alpha is positive"),
        ({"mode": "both"}, "per_class or per_client"),
        ({"alpha": 0.01, "min_size": 4, "clients": 5, "tries": 3}, "lower min_size or raise alpha"),
    ]:
        with pytest.raises(ValueError, match=words):
            length_dirichlet(**{"lengths": list(range(1, 21)), "clients": 2, "alpha": 1.0} | wrong)
