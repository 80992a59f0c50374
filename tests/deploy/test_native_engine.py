"""The native engine gives the wires of the interpreter, in every form that the machine has."""

import importlib.util
import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_programs import FAMILIES, REFUSED, woken

from saccade.deploy import Program, Wire, engine, lower
from saccade.deploy.operations.combine import Combine
from saccade.deploy.operations.hold import Hold
from saccade.deploy.operations.membrane import Membrane
from saccade.deploy.operations.pooling import Window
from saccade.deploy.operations.synapse import Synapse
from saccade.deploy.operations.thresholds import Thresholds
from saccade.deploy.values import Term

if importlib.util.find_spec("saccade._engine") is None:
    pytest.skip("the native engine is not built", allow_module_level=True)
ISAS = engine.module().instruction_sets()
KERNELS = ("events", "counts", "tables", "codebook", "dense", "winograd", "")
few = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def same(program, x, expected=None, **choice):
    """All wires that the engine stores are those of the interpreter; how many."""
    expected = program.trace(x) if expected is None else expected
    found = engine.trace(program, x, **choice)
    for i, value in found.items():
        if not np.array_equal(np.broadcast_to(value, expected[i].shape), expected[i]):
            made = program.operations[i - 1].name if i else "input"
            wrong = int((value != expected[i]).sum())
            raise AssertionError(f"wire {i} ({made} of {program.wires[i]}, {choice}): {wrong} of {value.size} differ")
    return len(found)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in REFUSED])
def test_every_family(name):
    model, pixels = woken(name)
    program, x = lower(model, pixels / 255), pixels.numpy()
    expected = program.trace(x)
    if any("native" not in vars(type(operation)) for operation in program.operations):
        with pytest.raises(ValueError, match="the native engine has no form of the operation"):
            program.run(x, engine="native")
        assert np.array_equal(program.run(x), program.answer(expected))
        return
    assert same(program, x, expected, fuse=False, isa=ISAS[-1]) == len(program.wires)
    for isa in ISAS:
        same(program, x, expected, fuse=True, isa=isa)
    logits = program.answer(expected)
    for threads in (1, 2):
        assert np.array_equal(program.run(x, engine="native", threads=threads), logits)


def reach(weight, low, high):
    """Between which numbers the sums of an output lie."""
    rows = weight.reshape(len(weight), -1)
    up, down = np.where(rows > 0, rows, 0).sum(1), np.where(rows < 0, rows, 0).sum(1)
    ends = (down * high + up * low).min(), (up * high + down * low).max()
    return int(min(ends[0], 0)), int(max(ends[1], 0))


def conv_shape(size, kernel, stride, padding, dilation):
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


@st.composite
def layers(draw):
    """A layer of any size and width of weights, what follows it, and input that fires at some rate."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    T, N = draw(st.sampled_from((1, 2, 3, 4, 5, 8))), draw(st.integers(1, 3))
    groups = draw(st.sampled_from((1, 1, 1, 1, 2)))
    c, o = (groups * draw(st.sampled_from((1, 3, 16, 40, 64, 65, 130))) for _ in range(2))
    k, stride, padding = draw(st.sampled_from((1, 2, 3, 3, 3, 5))), draw(st.integers(1, 3)), draw(st.integers(0, 2))
    dilation = draw(st.sampled_from((1, 1, 1, 2)))
    height, width = (draw(st.integers(dilation * (k - 1) + 1, 12)) for _ in range(2))
    kind = draw(
        st.sampled_from(
            ("8 bits", "odd", "4 bits", "sign", "binary", "codebook", "large codebook", "24 bits", "16 bits")
        )
    )
    shape = (o, c // groups, k, k)
    if "codebook" in kind:
        book = rng.integers(-1, 2, (16 if kind == "codebook" else 50, k, k))
        weight = book[rng.integers(0, len(book), shape[:2])] * draw(st.sampled_from((1, 127)))
    else:
        choices = {"sign": (-1, 1), "binary": (0, 1)}
        limit = {"8 bits": 127, "odd": 127, "4 bits": 7, "24 bits": 2**22, "16 bits": 3000}
        if kind in choices:
            weight = rng.choice(choices[kind], shape)
        else:
            weight = rng.integers(-limit[kind] - 1, limit[kind] + 1, shape)
            weight = 2 * weight + 1 if kind == "odd" else weight
    weight = weight.astype(np.int64)
    high = draw(st.sampled_from((1, 1, 1, 1, 4, 255)))
    record = Synapse((0,), weight, (stride, stride), (padding, padding), (dilation, dilation), groups)
    out = (o, conv_shape(height, k, stride, padding, dilation), conv_shape(width, k, stride, padding, dilation))
    ends = reach(weight, 0, high)
    wires, records = [Wire((c, height, width), 0, high), Wire(out, *ends)], [record]
    follows = draw(st.sampled_from(("sums", "levels", "hard", "hard", "soft", "none", "mixed")))
    size = max(abs(end) for end in ends) + 1
    theta = rng.integers(-size // 8, size // 3 + 1, (1, o, 1, 1))
    if follows == "levels":
        D = draw(st.sampled_from((1, 1, 3)))
        sign = rng.choice((-1, 1), (o, 1, 1))
        records.append(Thresholds((1,), sign, np.sort(rng.integers(-size // 8, size // 3 + 1, (D, o, 1, 1)), 0)))
        wires.append(Wire(out, 0, D, "n"))
    elif follows != "sums":
        fraction, shift = draw(st.sampled_from((0, 10, 20))), draw(st.integers(0, 2))
        decay = np.full((1, 1, 1), 1 if follows != "mixed" else 3 << 4)
        shift = 6 if follows == "mixed" else shift
        factor = rng.choice((-1, 1), (o, 1, 1)) << fraction
        offset = rng.integers(-(size << fraction) // 8, (size << fraction) // 8 + 1, (o, 1, 1))
        amount = (theta[0] << fraction) if follows == "soft" else rng.integers(-3, 4, (o, 1, 1))
        reset = follows if follows in ("hard", "soft", "none") else "hard"
        spread = rng.integers(0, max(1 << fraction, 2), theta.shape)  # thresholds between multiples of the factor
        records.append(Membrane((1,), factor, offset, decay, shift, (theta << fraction) + spread, reset, amount))
        wires.append(Wire(out, 0, 1, "n"))
        if draw(st.booleans()) and min(out[1:]) >= 2:
            p = draw(st.sampled_from((2, 2, 3)))
            if min(out[1:]) >= p:
                pooled = (o, (out[1] - p) // p + 1, (out[2] - p) // p + 1)
                records.append(Window((2,), "max", (p, p), (p, p), (0, 0)))
                wires.append(Wire(pooled, 0, 1))
    last = len(wires) - 1
    answer = Term(last, np.ones((1, 1, 1)))
    program = Program(T, 1.0, tuple(wires), tuple(records), (answer,), np.zeros(wires[-1].shape), sequence=True)
    rate = draw(st.sampled_from((0.0, 0.02, 0.1, 0.5, 1.0)))
    x = (rng.random((T, N, c, height, width)) < rate) * rng.integers(1, high + 1, (T, N, c, height, width))
    return program, x.astype(np.uint8)


@given(layers())
@few
@pytest.mark.parametrize("kernel", KERNELS)
def test_layers_of_every_kind(kernel, case):
    program, x = case
    expected = program.trace(x)
    for isa in ISAS:
        same(program, x, expected, isa=isa, kernel=kernel)
        same(program, x, expected, isa=isa, kernel=kernel, fuse=False)
        runner = engine.plan(program, len(x), isa=isa, kernel=kernel)
        found = np.empty((x.shape[1], *program.wires[-1].shape))
        assert runner.run(x, found, True, 2)
        assert np.array_equal(found, program.answer(expected))


@pytest.mark.parametrize("lead", [(), (3,), (4, 16), (2, 3, 5)])
@pytest.mark.parametrize(("low", "high", "largest"), [(0, 1, 1), (0, 1, 7), (0, 4, 7), (-1, 2, 1 << 22), (0, 255, 100)])
def test_matrix_products_along_the_last_of_any_axes(lead, low, high, largest):
    """Not along the first of three, where maps have their channels; with neurons behind and without."""
    rng = np.random.default_rng(0)
    weight, ones = rng.integers(-largest, largest + 1, (10, 16)), np.ones((1,) * (len(lead) + 1))
    first, product = Wire((*lead, 16), low, high), Synapse((0,), weight)
    sums = product.made(first)
    fires = Thresholds((1,), ones.astype(np.int64), np.array([0, largest]).reshape(2, *ones.shape))
    wires = (first, sums, fires.made(sums).named("n"))
    x = rng.integers(low, high + 1, (2, 3, *first.shape))
    for last in (1, 2):
        program = Program(
            2, 1.0, wires[: last + 1], (product, fires)[:last], (Term(last, ones),), 0 * ones, sequence=True
        )
        expected = program.trace(x)
        for kernel in KERNELS:
            for isa in ISAS:
                same(program, x, expected, isa=isa, kernel=kernel)
        assert np.array_equal(program.run(x, engine="native"), program.answer(expected))


@given(layers(), st.integers(1, 3))
@few
def test_pieces_of_a_stream_are_the_whole(case, length):
    program, x = case
    whole = program.logits(program.trace(x))
    stream = program.stream(engine="native")
    pieces = [stream(x[i : i + length]) for i in range(0, len(x), length)]
    assert np.array_equal(np.concatenate(pieces), whole)


def still(weight_bits, places, T, seed, reset=0):
    """A picture that stands still, its neurons, and a sum between with an offset for each place."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(-(1 << weight_bits - 1), 1 << weight_bits - 1, (20, 3, 3, 3))
    low, high = reach(weight, 0, 255)
    wires = [Wire((3, 9, 7), 0, 255), Wire((20, 9, 7), low, high)]
    records = [Synapse((0,), weight, (1, 1), (1, 1))]
    if places:
        edges = np.zeros((20, 9, 7), np.int64)
        edges[:, 1:-1, 1:-1] = 1
        offset = rng.integers(-high, high, (20, 1, 1)) * (1 + edges)
        records.append(Combine((1,), offset << 8, (rng.integers(-(1 << 10), 1 << 10, (20, 1, 1)),), (2,), 8))
        wires.append(Wire((20, 9, 7), -9 * high, 9 * high))
    records.append(Hold((len(records),), T))
    wires.append(wires[-1])
    factor = np.int64(1 << 10) if places else rng.choice((-1, 1), (20, 1, 1)) << 10
    theta = rng.integers(1, high << 10, (1, 20, 1, 1))
    decay = np.ones((1, 1, 1), np.int64)
    offset = rng.integers(-high << 8, high << 8, (20, 1, 1))
    amount = np.full((1, 1, 1), reset, np.int64)
    records.append(
        Membrane((len(records),), np.broadcast_to(factor, (20, 1, 1)), offset, decay, 1, theta, "hard", amount)
    )
    wires.append(Wire((20, 9, 7), 0, 1, "n"))
    records.append(Window((len(records),), "max", (3, 3), (2, 2), (1, 1)))
    wires.append(Wire((20, 5, 4), 0, 1))
    answer = Term(len(wires) - 1, np.ones((1, 1, 1)))
    program = Program(T, 1.0, tuple(wires), tuple(records), (answer,), np.zeros((20, 5, 4)))
    return program, rng.integers(0, 256, (3, 3, 9, 7)).astype(np.uint8)


@pytest.mark.parametrize("weight_bits", [4, 8, 9, 16, 24])
@pytest.mark.parametrize("places", [False, True])
def test_pictures_that_stand_still(weight_bits, places):
    for T, reset in ((1, 0), (4, 0), (7, 0), (4, 3)):
        program, x = still(weight_bits, places, T, T + reset, reset)
        expected = program.trace(x)
        assert 0.02 < expected[-2].mean() < 0.98
        for isa in ISAS:
            same(program, x, expected, isa=isa)


def test_input_of_every_type_and_wrong_input():
    program, x = still(8, True, 4, 0)
    logits = program.run(x, engine="numpy")
    for kind in ("u1", "i2", "i4", "i8", "f2", "f4", "f8", "u4", ">f4"):
        assert np.array_equal(program.run(x.astype(kind), engine="native"), logits)
    strided = np.repeat(x, 2, -1)[..., ::2]
    assert np.array_equal(program.run(strided, engine="native"), logits)
    assert program.run(x[:0], engine="native").shape == (0, *logits.shape[1:])
    for wrong in (
        x[0],
        x[..., :-1],
        x.astype(float) + 0.5,
        x.astype(int) - 300,
        np.full(x.shape, np.nan),
        x.astype("f4") * 1e30,
    ):
        messages = []
        for choice in ("native", "numpy"):
            with pytest.raises(ValueError, match="the program takes") as error:
                program.run(wrong, engine=choice)
            messages.append(str(error.value))
        assert messages[0] == messages[1]
    with pytest.raises(ValueError, match="engine must be one of auto, native, numpy, got 'fast'"):
        program.run(x, engine="fast")


def test_an_engine_that_is_not_there(monkeypatch):
    program, x = still(8, False, 2, 0)
    expected = program.run(x, engine="numpy")

    def missing():
        raise ValueError("the native engine is not built (no module); programs run with engine='numpy'")

    monkeypatch.setattr(engine, "module", missing)
    assert np.array_equal(program.run(x), expected)
    with pytest.raises(ValueError, match="the native engine is not built") as error:
        program.run(x, engine="native")
    assert "\n" not in str(error.value)


def test_an_instruction_set_that_is_not_there(monkeypatch):
    program, _ = still(8, False, 2, 0)
    monkeypatch.setenv("SACCADE_ISA", "avx1024")
    with pytest.raises(ValueError, match="SACCADE_ISA: no engine for avx1024 on this machine; there are portable"):
        engine.plan(program, 2)
    monkeypatch.setenv("SACCADE_ISA", "portable")
    assert engine.plan(program, 2).isa == "portable"


def test_a_forked_child_runs_alone():
    program, x = still(8, True, 4, 0)
    expected = program.run(x, threads=2)
    child = os.fork()
    if child == 0:
        good = np.array_equal(program.run(x, threads=2), expected)
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_threads_and_batches():
    model, pixels = woken("or_resnet18_small")
    program, x = lower(model, pixels[0] / 255), pixels[0].numpy()
    x = np.concatenate([x, x[::-1], x])
    expected = program.run(x, engine="numpy")
    for threads in (1, 2, 3):
        for count in (1, 2, 9):
            assert np.array_equal(program.run(x[:count], threads=threads, engine="native"), expected[:count])


def test_copies_plan_for_themselves():
    import copy

    program, x = still(8, False, 2, 0)
    logits = program.run(x)
    other = copy.deepcopy(program)
    assert not other.plans
    assert np.array_equal(other.run(x), logits)
    assert torch.get_num_threads() >= 1
