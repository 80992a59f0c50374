"""Potentials that are stored in a few bits, natively: at once and in pieces of a stream."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from test_native_engine import ISAS, few, reach, same

from saccade.deploy import Program, Wire
from saccade.deploy.operations.quantized_membrane import StoredMembrane
from saccade.deploy.operations.synapse import Synapse
from saccade.deploy.values import Term


@st.composite
def neurons(draw):
    """A layer and its neurons; constants that are the same everywhere, change with the channel, or with the place."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    T, N = draw(st.integers(1, 6)), draw(st.integers(1, 2))
    c, o = draw(st.sampled_from((1, 3, 16))), draw(st.sampled_from((1, 5, 33)))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    weight = rng.integers(-8, 8, (o, c, 3, 3))
    low, high = reach(weight, 0, 4)
    out = (o, height, width)

    def constant(least, most, lead=()):
        shape = draw(st.sampled_from(((1, 1, 1), (o, 1, 1), out)))
        return rng.integers(least, most + 1, (*lead, *shape))

    fraction, shift = draw(st.integers(0, 12)), draw(st.integers(0, 3))
    size = (max(high, -low) + 1) << fraction
    K, D = draw(st.integers(1, 9)), draw(st.sampled_from((1, 1, 3)))
    edges, stored = np.sort(constant(-size, size, (K - 1,)), 0), constant(-size, size, (K,))
    record = StoredMembrane(
        (1,),
        rng.choice((-1, 1), (o, 1, 1)) << fraction,
        constant(-size // 4, size // 4),
        np.full((1, 1, 1), draw(st.sampled_from((1, 1 << shift, 3)))),
        shift,
        np.sort(constant(-size // 8, size // 2, (D,)), 0),
        draw(st.sampled_from(("hard", "soft", "none"))),
        constant(0, size // 2),
        edges=edges,
        stored=stored,
    )
    wires = (Wire((c, height, width), 0, 4), Wire(out, low, high), Wire(out, 0, D, "n"))
    records = (Synapse((0,), weight, (1, 1), (1, 1)), record)
    answer = (Term(2, np.ones((1, 1, 1))),)
    program = Program(T, 1.0, wires, records, answer, np.zeros(out), sequence=True)
    return program, rng.integers(0, 5, (T, N, c, height, width)).astype(np.uint8)


@given(neurons(), st.integers(1, 3))
@few
def test_stored_potentials(case, length):
    program, x = case
    expected = program.trace(x)
    for isa in ISAS:
        for fuse in (True, False):
            assert same(program, x, expected, isa=isa, fuse=fuse) == 3
    assert np.array_equal(program.run(x, engine="native"), program.answer(expected))
    stream = program.stream(engine="native")
    pieces = [stream(x[i : i + length]) for i in range(0, len(x), length)]
    assert np.array_equal(np.concatenate(pieces), program.logits(expected))
