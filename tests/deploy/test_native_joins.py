"""Maps that are joined place by place: made where they will lie, or copied there."""

import numpy as np
import pytest
from test_native_engine import reach
from test_native_levels import equal_everywhere, some

from saccade.deploy import Program, Wire
from saccade.deploy.operations.concat import Concat
from saccade.deploy.operations.movement import Part, Reshape
from saccade.deploy.operations.synapse import Synapse
from saccade.deploy.operations.thresholds import Thresholds
from saccade.deploy.values import Term


@pytest.mark.parametrize("again", [False, True])  # the second map is read by the answer too
@pytest.mark.parametrize(
    "kinds", [("4 bits", "4 bits"), ("4 bits", "31 bits"), ("31 bits", "31 bits"), ("24 bits", "16 bits")]
)
@pytest.mark.parametrize(("channels", "groups"), [(6, 1), (16, 1), (16, 16)])
def test_two_maps_in_a_row(channels, groups, kinds, again):
    rng = np.random.default_rng(channels + groups)
    wires, records = [Wire((channels, 4, 9), 0, 4)], []

    def add(record, wire):
        records.append(record)
        wires.append(wire)
        return len(records)

    rows = []
    for (start, stop), kind in zip(((0, 4), (4, 9)), kinds, strict=True):
        part = add(Part((0,), 2, start, stop), Wire((channels, 4, stop - start), 0, 4))
        weight = some(rng, kind, (channels, channels // groups, 3, 3))
        ends = reach(weight, 0, 4)
        shape = (channels, 4, stop - start)
        made = add(Synapse((part,), weight, (1, 1), (1, 1), (1, 1), groups), Wire(shape, *ends))
        rows.append(
            add(Reshape((made,), (channels, 1, 4 * (stop - start))), Wire((channels, 1, 4 * (stop - start)), *ends))
        )
    low, high = min(wires[i].low for i in rows), max(wires[i].high for i in rows)
    join = add(Concat(tuple(rows), 2), Wire((channels, 1, 36), low, high))
    theta = np.sort(rng.integers(low // 8, high // 8 + 1, (4, channels, 1, 1)), 0)
    fired = add(Thresholds((join,), rng.choice((-1, 1), (channels, 1, 1)), theta), Wire((channels, 1, 36), 0, 4, "n"))
    last = add(Part((fired,), 2, 16, 36), Wire((channels, 1, 20), 0, 4))
    last = add(Reshape((last,), (channels, 4, 5)), Wire((channels, 4, 5), 0, 4))
    weight = some(rng, "4 bits", (5, channels, 3, 3))
    last = add(Synapse((last,), weight, (1, 1), (1, 1)), Wire((5, 4, 5), *reach(weight, 0, 4)))
    answer = [Term(last, np.ones((1, 1, 1)))]
    if again:
        whole = add(Part((5,), 0, 0, 5), Wire((5, 4, 5), wires[5].low, wires[5].high))
        answer.append(Term(whole, np.full((1, 1, 1), 0.25)))
    program = Program(2, 1.0, tuple(wires), tuple(records), tuple(answer), np.zeros((5, 4, 5)), sequence=True)
    equal_everywhere(program, rng.integers(0, 5, (2, 2, channels, 4, 9)).astype(np.uint8), kernels=("", "dense"))
