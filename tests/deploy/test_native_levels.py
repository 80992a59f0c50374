"""Layers of counts whose neurons have levels: dense products, minimal filtering and thresholds within the engine's kernels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_native_engine import ISAS, conv_shape, few, reach, same

from saccade.deploy import Program, Wire, engine
from saccade.deploy.operations.combine import Combine
from saccade.deploy.operations.pooling import Window
from saccade.deploy.operations.synapse import Synapse
from saccade.deploy.operations.thresholds import Thresholds
from saccade.deploy.values import Term

KERNELS = ("dense", "winograd", "")


class Chain:
    """A program that grows at its end."""

    def __init__(self, shape, high):
        self.wires, self.records = [Wire(shape, 0, high)], []

    def add(self, record, wire):
        self.records.append(record)
        self.wires.append(wire)

    def synapse(self, weight, **geometry):
        before = self.wires[-1]
        ends = reach(weight, before.low, before.high)
        if weight.ndim == 2:
            shape = (*before.shape[:-1], len(weight))
        else:
            stride, padding, dilation = (geometry.get(name, 1) for name in ("stride", "padding", "dilation"))
            geometry = {"stride": (stride, stride), "padding": (padding, padding), "dilation": (dilation, dilation)}
            k = weight.shape[-1]
            shape = (len(weight), *(conv_shape(size, k, stride, padding, dilation) for size in before.shape[1:]))
        self.add(Synapse((len(self.records),), weight, **geometry), Wire(shape, *ends))

    def levels(self, rng, D):
        """Thresholds all over the range, some of them never or always reached."""
        before = self.wires[-1]
        lead = (-1,) + (1,) * (len(before.shape) - 1 if len(before.shape) == 3 else 0)
        o = before.shape[0] if len(before.shape) == 3 else before.shape[-1]
        share = rng.choice((1, 1, 16, 200))  # sums of random signs stay far below what is possible
        theta = rng.integers(before.low // share - 1, before.high // share + 2, (D, o))
        theta[rng.random((D, o)) < 0.05] = rng.choice((-(2**62), 2**62))
        sign = rng.choice((-1, 1), o).reshape(lead)
        theta = np.sort(theta, 0).reshape(D, *sign.shape)
        self.add(Thresholds((len(self.records),), sign, theta), Wire(before.shape, 0, D, f"n{len(self.records)}"))

    def pool(self, p):
        before = self.wires[-1]
        c, height, width = before.shape
        shape = (c, (height - p) // p + 1, (width - p) // p + 1)
        self.add(Window((len(self.records),), "max", (p, p), (p, p), (0, 0)), Wire(shape, before.low, before.high))

    def program(self, T):
        last = self.wires[-1]
        answer = Term(len(self.records), np.ones((1,) * len(last.shape)))
        return Program(T, 1.0, tuple(self.wires), tuple(self.records), (answer,), np.zeros(last.shape), sequence=True)


def some(rng, kind, shape):
    """Weights; the ends of their range are there."""
    if kind == "nothing":
        return np.zeros(shape, np.int64)
    low, high = {
        "4 bits": (-8, 7),
        "3 bits": (-4, 3),
        "8 bits": (-128, 127),
        "odd": (-127, 127),
        "turned": (-127, 128),
        "16 bits": (-(2**15), 2**15 - 1),
        "24 bits": (-(2**23) + 1, 2**23 - 1),
        "31 bits": (-(2**30), 2**30),
    }[kind]
    weight = rng.integers(low, high + 1, shape)
    weight = np.where(rng.random(shape) < 0.1, rng.choice((low, high), shape), weight)
    if kind == "odd":
        weight = 2 * weight + 1
    if rng.random() < 0.3:
        weight[0] = high if rng.random() < 0.5 else low  # an output that reaches the end of the range
    return weight.astype(np.int64)


@st.composite
def chains(draw):
    """Up to three layers, with levels and pooling of any kind between them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    T, N = draw(st.sampled_from((1, 1, 2, 3))), draw(st.integers(1, 2))
    c = draw(st.sampled_from((1, 3, 4, 8, 17, 48)))
    high = draw(st.sampled_from((2, 4, 15, 63, 64, 255)))
    chain = Chain((c, draw(st.integers(1, 11)), draw(st.integers(1, 11))), high)
    for _ in range(draw(st.integers(1, 3))):
        size = chain.wires[-1].shape
        k = draw(st.sampled_from((1, 2, 3, 3, 3, 3, 5)))
        geometry = {"stride": 1, "padding": k // 2, "dilation": 1}
        if draw(st.integers(0, 2)) == 0:
            geometry = {
                "stride": draw(st.integers(1, 3)),
                "padding": draw(st.integers(0, 3)),
                "dilation": draw(st.integers(1, 2)),
            }
        if min(conv_shape(n, k, **geometry) for n in size[1:]) < 1:
            break
        o = draw(st.sampled_from((1, 5, 16, 33, 64, 80, 130)))
        kind = draw(
            st.sampled_from(("4 bits", "4 bits", "3 bits", "8 bits", "odd", "16 bits", "24 bits", "31 bits", "nothing"))
        )
        chain.synapse(some(rng, kind, (o, size[0], k, k)), **geometry)
        if draw(st.integers(0, 5)) == 0:
            break
        chain.levels(rng, draw(st.sampled_from((1, 2, 3, 4, 4, 4, 9, 64))))
        p = draw(st.sampled_from((1, 2, 2, 3)))
        if p > 1 and min(chain.wires[-1].shape[1:]) >= p:
            chain.pool(p)
    x = rng.integers(0, high + 1, (T, N, *chain.wires[0].shape))
    if draw(st.booleans()):
        x = np.where(rng.random(x.shape) < 0.3, rng.choice((0, high), x.shape), x)
    return chain.program(T), x.astype(np.uint8)


def equal_everywhere(program, x, kernels=KERNELS):
    expected = program.trace(x)
    for isa in ISAS:
        for kernel in kernels:
            same(program, x, expected, isa=isa, kernel=kernel)
            runner = engine.plan(program, len(x), isa=isa, kernel=kernel)
            for threads in (1, 2):
                found = np.empty((x.shape[1], *engine.answer_shape(program)))
                assert runner.run(x, found, True, threads)
                assert np.array_equal(found, program.answer(expected))


@given(chains())
@few
def test_layers_of_counts(case):
    equal_everywhere(*case)


@given(chains(), st.integers(1, 2))
@few
def test_pieces_of_a_stream(case, length):
    program, x = case
    whole = program.logits(program.trace(x))
    stream = program.stream(engine="native")
    pieces = [stream(x[i : i + length]) for i in range(0, len(x), length)]
    assert np.array_equal(np.concatenate(pieces), whole)


@pytest.mark.parametrize("shape", [(40,), (9, 24), (1, 64)])
def test_products_along_the_last_axis(shape):
    rng = np.random.default_rng(0)
    for kind in ("4 bits", "8 bits", "31 bits"):
        chain = Chain(shape, 4)
        chain.synapse(some(rng, kind, (50, shape[-1])))
        chain.levels(rng, 4)
        chain.synapse(some(rng, "4 bits", (7, 50)))
        program = chain.program(2)
        equal_everywhere(program, rng.integers(0, 5, (2, 2, *shape)).astype(np.uint8))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("bits", "high", "channels"), [(8, 255, 64), (4, 4, 512), (4, 63, 40), (31, 255, 4), (24, 4, 130)]
)
def test_sums_at_the_end_of_their_range(bits, high, channels, sign):
    """All weights and inputs as large as can be; thresholds beside each sum that a border makes."""
    weight = np.full((16, channels, 3, 3), sign * (2 ** (bits - 1) - 1) if sign > 0 else -(2 ** (bits - 1)))
    weight[1::2] *= np.where(np.arange(9).reshape(3, 3) % 2, 1, -1)
    chain = Chain((channels, 6, 7), high)
    chain.synapse(weight)
    sums = np.array([4, 6, 9]) * channels * high * int(weight[0, 0, 0, 0])
    theta = np.sort(np.concatenate([sums, sums + 1, [0]]))
    before = chain.wires[-1]
    chain.add(
        Thresholds((1,), np.ones((1, 1, 1), np.int64), theta.reshape(-1, 1, 1, 1)),
        Wire(before.shape, 0, len(theta), "n"),
    )
    x = np.full((1, 1, channels, 6, 7), high, np.uint8)
    x[..., -1, -1] = 0
    equal_everywhere(chain.program(1), x)


def test_sums_between_digits_and_thresholds():
    """Sums of 43 bits whose highest digits are those of a threshold: only the lowest ones tell."""
    rng = np.random.default_rng(3)
    weight = rng.integers(-(2**30), 2**30, (20, 4, 3, 3))
    chain = Chain((4, 8, 6), 255)
    chain.synapse(weight)
    first = chain.program(1)
    x = rng.integers(0, 256, (1, 1, 4, 8, 6)).astype(np.uint8)
    sums = first.trace(x)[1].reshape(20, -1)
    theta = np.sort(np.stack([sums[:, 3] - 1, sums[:, 7], sums[:, 20] + 1, sums[:, 30] + (1 << 15)]), 0)
    for pooled in (False, True):
        chain = Chain((4, 8, 6), 255)
        chain.synapse(weight)
        before = chain.wires[-1]
        chain.add(
            Thresholds((1,), np.ones((1, 1, 1), np.int64), theta[:, :, None, None]), Wire(before.shape, 0, 4, "n")
        )
        if pooled:
            chain.pool(2)
        equal_everywhere(chain.program(1), x)


def test_what_is_filtered_minimally():
    """Where bytes hold the differences of counts; in as many digits as the filters of the weights have."""
    rng = np.random.default_rng(0)
    for bits, high, whole in (("4 bits", 4, True), ("8 bits", 63, True), ("24 bits", 4, True), ("4 bits", 64, False)):
        chain = Chain((20, 7, 9), high)
        chain.synapse(some(rng, bits, (33, 20, 3, 3)))
        chain.levels(rng, 4)
        program = chain.program(1)
        for isa in ISAS:
            steps = [how for _, how in engine.plan(program, 1, isa=isa, kernel="winograd").steps()]
            assert ("winograd" in steps) == whole
            assert "thresholds" not in steps
        equal_everywhere(program, rng.integers(0, high + 1, (1, 2, 20, 7, 9)).astype(np.uint8), kernels=("winograd",))


@pytest.mark.parametrize("follows", ["sums", "levels", "maxima"])
@pytest.mark.parametrize(("bits", "high"), [("16 bits", 63), ("24 bits", 4), ("24 bits", 63)])
def test_filters_of_several_digits(bits, high, follows):
    """Sums within 32 bits, and beyond; thresholds that only their lowest digits tell from a sum."""
    rng = np.random.default_rng(high)
    for channels in (8, 100):
        chain = Chain((channels, 6, 8), high)
        chain.synapse(some(rng, bits, (24, channels, 3, 3)))
        x = rng.integers(0, high + 1, (1, 1, channels, 6, 8)).astype(np.uint8)
        if follows != "sums":
            sums = chain.program(1).trace(x)[1].reshape(24, -1)
            theta = np.sort(np.stack([sums[:, 3], sums[:, 9] + 1, sums[:, 20] + 3, sums[:, 30] - 70]), 0)
            before = chain.wires[-1]
            record = Thresholds((1,), np.ones((1, 1, 1), np.int64), theta[:, :, None, None])
            chain.add(record, Wire(before.shape, 0, 4, "n"))
        if follows == "maxima":
            chain.pool(2)
        equal_everywhere(chain.program(1), x)


def test_levels_of_what_is_stored():
    """Behind a sum of branches, all widths of numbers, with channels innermost and outermost."""
    rng = np.random.default_rng(1)
    for factor in (1, 100, 10_000, 2**26, 2**40):
        for channels in (3, 16, 33):
            chain = Chain((channels, 5, 7), 7)
            scale = rng.integers(-factor, factor + 1, (channels, 1, 1))
            offset = rng.integers(-factor, factor + 1, (channels, 1, 1))
            chain.add(Combine((0,), offset, (scale,), (0,), 0), Wire((channels, 5, 7), -8 * factor, 8 * factor))
            chain.levels(rng, 4)
            chain.synapse(some(rng, "4 bits", (20, channels, 3, 3)))
            before = chain.wires[-1]
            scale, offset = rng.integers(-factor, factor + 1, (2, 20, 1, 1))
            reached = factor * (1 + max(-before.low, before.high))
            chain.add(Combine((3,), offset, (scale,), (0,), 0), Wire(before.shape, -reached, reached))
            chain.levels(rng, 3)
            chain.synapse(some(rng, "4 bits", (20, 20, 3, 3)))
            program = chain.program(2)
            equal_everywhere(program, rng.integers(0, 8, (2, 2, channels, 5, 7)).astype(np.uint8))
