"""Spike alphabets: interval arithmetic that is sound, on the grid that the values lie on."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from saccade.graph.alphabet import exact_sum
from saccade.measure import Alphabet, profile


@pytest.mark.parametrize(
    ("levels", "unit", "low", "high", "shown"),
    [
        ((0.0, 1.0), Fraction(1), 0, 1, "{0,1}"),
        ((-1.0, 0.0, 1.0), Fraction(1), -1, 1, "{-1,0,1}"),
        ((0.0, 0.25, 0.5, 0.75, 1.0), Fraction(1, 4), 0, 4, "{0..4}/4"),
        ((0.0, 1 / 3, 2 / 3, 1.0), Fraction(1, 3), 0, 3, "{0..3}/3"),
        ((0.0, 1.5), Fraction(3, 2), 0, 1, "{0,1}*1.5"),
    ],
)
def test_levels_to_grid(levels, unit, low, high, shown):
    alphabet = Alphabet.of_levels(levels)
    assert alphabet == Alphabet(unit, low, high)
    assert str(alphabet) == shown


def test_levels_without_a_grid_are_refused():
    with pytest.raises(ValueError, match="hold no spike"):
        Alphabet.of_levels((0.0,))
    with pytest.raises(ValueError, match="no common grid"):
        Alphabet.of_levels((0.0, 1.0, 3.14159265358979))


def test_clipping():
    ternary = Alphabet(Fraction(1), -1, 1)
    assert ternary.clipped(0, None) == Alphabet(Fraction(1), 0, 1)
    assert ternary.clipped(-2, float("inf")) == ternary
    assert ternary.clipped(0.3, None) is None


def test_sums_past_exactness_are_refused():
    assert int(exact_sum(torch.full((5,), 3.0), 1 << 30)) == 15
    with pytest.raises(OverflowError, match="cannot be summed exactly"):
        exact_sum(torch.ones(4), 1 << 51)


class Fixed(nn.Module):
    levels = (-1.0, 0.0, 0.5, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


OPERATIONS = {
    "add": lambda a, b: a + b,
    "weighted": lambda a, b: torch.sub(a, b, alpha=2),
    "multiply": lambda a, b: a * b,
    "scale": lambda a, b: a * -0.5,
    "divide": lambda a, b: b / 4,
    "shift": lambda a, b: 1 - a,
    "relu": lambda a, b: torch.relu(a),
    "clamp": lambda a, b: a.clamp(-0.5, 1.0),
    "hardtanh": lambda a, b: nn.functional.hardtanh(b),
    "minimum": lambda a, b: torch.minimum(a, b),
    "mean": lambda a, b: b.mean(-1, keepdim=True).expand_as(b),
    "in place": lambda a, b: a.clone().sub_(b),
    "flip": lambda a, b: a.flip(-1),
}


@settings(max_examples=60, deadline=None)
@given(names=st.lists(st.sampled_from(sorted(OPERATIONS)), max_size=5), seed=st.integers(0, 100))
def test_any_chain_of_exact_operations_stays_a_spike(names, seed):
    """The carried alphabet holds all values (the consumer checks), and events times unit is the sum of |values|."""

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron, self.head = Fixed(), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            a = self.neuron(x)
            b = a.flip(0)
            for name in names:
                a, b = OPERATIONS[name](a, b), a
            self.size = float(a.abs().sum())
            return self.head(a)

    generator = torch.Generator().manual_seed(seed)
    x = torch.tensor(Fixed.levels)[torch.randint(4, (2, 3, 4), generator=generator)]
    model = Chain()
    found = profile(model, x)
    (record,) = [op for op in found.records if op.layer == "head"]
    if record.alphabet is None:  # too fine a grid, or a clamp between its points
        assert any(name in ("clamp", "hardtanh", "multiply") for name in names)
    else:
        assert found.total().macs == 0
        assert record.events * float(record.alphabet.unit) == pytest.approx(model.size)
        assert record.counts.sops == 3 * record.events
