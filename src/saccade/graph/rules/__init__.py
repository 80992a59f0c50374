"""Counting rules: what each operation costs, and which values its result can hold.

One table, by operation. An operation on floats that is not in it is refused where operations are counted, never taken for free.
Deliberate zeros: copies and views; factories; bias terms added by the layer that owns them (they initialise the accumulator);
scaling spikes by a number (folds into weights). Results whose values leave an exact grid (uneven average windows, products with
analog values, ...) are analog.
"""

from saccade.graph.rules import elementwise, functions, movement, neurons, products, reductions, sampling
from saccade.graph.rules.registry import RULES, CountingRule, Rule, counts

__all__ = [
    "RULES",
    "CountingRule",
    "Rule",
    "counts",
    "elementwise",
    "functions",
    "movement",
    "neurons",
    "products",
    "reductions",
    "sampling",
]
