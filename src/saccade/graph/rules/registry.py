"""Which rule counts which operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from saccade.graph.alphabet import Alphabet
from saccade.graph.call import Call

Rule = Callable[[Call], Alphabet | None]
R = TypeVar("R", bound=Rule)


@dataclass(frozen=True)
class CountingRule:
    """A rule and when it is asked: by default where the input of the model plays a part, in floats.

    moves: its results hold only values that went in. on_constants: also for what does not depend on the input, since
    spikes may be written into it. on_integers: also where no floats take part.
    """

    rule: Rule
    moves: bool = False
    on_constants: bool = False
    on_integers: bool = False


RULES: dict[str, CountingRule] = {}


def counts(*names: str, moves: bool = False, on_constants: bool = False, on_integers: bool = False) -> Callable[[R], R]:
    """Register the counting rule of operations, by name: ``"library::op"``, or bare for torch's own (``"add"``: also
    ``add_`` and ``add.out``).

    The rule is called after each such operation that depends on the model's input, counts by ``call.count(adds=...)`` or
    ``call.record(OpRecord(...))``, and returns the alphabet of values that the first output can hold, or None for analog
    values. See ``CountingRule`` for the options. Raises ValueError for a name that has a rule.

    >>> @counts("mylib::sum_of_spikes")
    ... def sum_of_spikes(call):
    ...     call.count(adds=int(call.event_sum(call.args[0])))
    ...     return call.alphabet(call.args[0]).summed(call.args[0].shape[-1])
    """

    def register(rule: R) -> R:
        for name in names:
            name = name.removeprefix("aten::")
            if name in RULES:
                raise ValueError(f"the operation {name!r} has a counting rule already: {RULES[name].rule.__name__}")
            RULES[name] = CountingRule(rule, moves, on_constants or moves, on_integers)
        return rule

    return register
