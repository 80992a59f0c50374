"""Convolutions with a filter for each channel: counts and wide numbers, any size, stride and dilation, weights to 24 bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_native_engine import ISAS, conv_shape, few, reach
from test_native_levels import equal_everywhere

from saccade.deploy import Program, Wire, engine
from saccade.deploy.operations.combine import Combine
from saccade.deploy.operations.synapse import Synapse
from saccade.deploy.operations.thresholds import Thresholds
from saccade.deploy.values import Term


def depthwise(rng, channels, height, width, kernel, stride, padding, dilation, bits, high, factor, T, N):
    """A layer of channels of their own, on counts or (`factor`) on multiples of them below and above 0, and its levels."""
    wires, records = [Wire((channels, height, width), 0, high)], []
    low = 0
    if factor != 1:
        offset = np.full((1, 1, 1), -(high // 2) * factor)
        records.append(Combine((0,), offset, (np.full((1, 1, 1), factor),), (0,), 0))
        low, high = -(high // 2) * factor, (high - high // 2) * factor
        wires.append(Wire(wires[0].shape, low, high))
    limit = 2 ** (bits - 1)
    weight = rng.integers(-limit, limit, (channels, 1, *kernel))
    weight[0] = rng.choice((-limit, limit - 1))  # reaches the end of the range
    size = [conv_shape(n, *of) for n, *of in zip((height, width), kernel, stride, padding, dilation, strict=True)]
    records.append(Synapse((len(records),), weight, stride, padding, dilation, channels))
    ends = reach(weight, low, high)
    wires.append(Wire((channels, *size), *ends))
    theta = np.sort(rng.integers(ends[0] // 4, ends[1] // 4 + 1, (4, channels, 1, 1)), 0)
    records.append(Thresholds((len(records),), rng.choice((-1, 1), (channels, 1, 1)), theta))
    wires.append(Wire(wires[-1].shape, 0, 4, "n"))
    # sums are answers too, so that they are compared themselves
    answer = tuple(Term(len(records) - k, np.full((1, 1, 1), 0.5 + k)) for k in (0, 1))
    program = Program(T, 1.0, tuple(wires), tuple(records), answer, np.zeros(wires[-1].shape), sequence=True)
    return program, rng.integers(0, wires[0].high + 1, (T, N, channels, height, width)).astype(np.uint8)


@st.composite
def layers(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pair = lambda *numbers: tuple(draw(st.sampled_from(numbers)) for _ in range(2))  # noqa: E731
    k = draw(st.sampled_from((1, 2, 3, 5, 7, 7, 9)))
    kernel = (k, k) if draw(st.integers(0, 3)) else pair(1, 2, 3, 5, 7)
    s = draw(st.sampled_from((1, 1, 2, 2, 3)))
    stride = (s, s) if draw(st.integers(0, 3)) else pair(1, 2, 3)
    padding = tuple(n // 2 for n in kernel) if draw(st.booleans()) else pair(0, 1, 4)
    dilation = (1, 1) if draw(st.integers(0, 3)) else pair(1, 2)
    size = [max(1, d * (n - 1) + 1 - 2 * p) for n, p, d in zip(kernel, padding, dilation, strict=True)]
    height, width = (draw(st.integers(n, n + 18)) for n in size)
    channels = draw(st.sampled_from((1, 2, 3, 4, 7, 8, 12, 16, 17, 32, 40)))
    bits, high = draw(st.sampled_from((4, 8, 8, 16, 24))), draw(st.sampled_from((1, 4, 4, 255)))
    factor = draw(st.sampled_from((1, 1, 1, 100, 10_000, 2**26)))
    case = (channels, height, width, kernel, stride, padding, dilation, bits, high, factor)
    return depthwise(rng, *case, draw(st.integers(1, 2)), draw(st.integers(1, 2)))


@given(layers())
@few
def test_filters_of_their_own(case):
    equal_everywhere(*case, kernels=("",))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("factor", [1, 100, 10_000, 2**26])
def test_seven_by_seven(stride, factor):
    """Input of all widths, sums of 32 and of 64 bits, as large as they can be."""
    rng = np.random.default_rng(stride)
    for channels in (16, 24, 5):
        program, x = depthwise(rng, channels, 15, 22, (7, 7), (stride, stride), (3, 3), (1, 1), 24, 4, factor, 1, 1)
        x[..., 4:, 4:] = 4
        equal_everywhere(program, x, kernels=("",))
        steps = [how for _, how in engine.plan(program, 1, isa=ISAS[-1]).steps()]
        assert "depthwise" in steps
