"""The native LIF against the plain loop: bit for bit where spikes are decided, tightly where gradients are summed."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade import kernels
from saccade.kernels import forms, lif
from saccade.kernels.operator import lif_operator
from saccade.neurons import LIF, NEURONS, ATan, Gaussian, Rectangle, Sigmoid, StraightThrough, Triangle

pytestmark = pytest.mark.skipif(not kernels.has_native(), reason="the native kernels are not built")

SURROGATES = [ATan(), Sigmoid(), Triangle(), Rectangle(), Gaussian(), StraightThrough()]
RESETS = ["hard", "soft", "none"]


def random(*shape, seed=0, scale=2.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def both(x, v0=None, grads=(True, False, False), constants=("decay", "gain", "v_th"), **options):
    """Outputs and all gradients of both forms, as two dicts."""
    found = []
    for form in ("reference", "native"):
        with kernels.use(form):
            leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
            given = {k: v.detach().clone().requires_grad_() if torch.is_tensor(v) else v for k, v in options.items()}
            start = None if v0 is None else v0.detach().clone().requires_grad_()
            s, v, u = lif(leaf, start, last=True, record=True, **given)
            outputs = {"spikes": s, "v_last": v, "potentials": u}
            wanted = [y for y, on in zip(outputs.values(), grads, strict=True) if on]
            torch.autograd.backward(wanted, [random(*y.shape, seed=9).to(y.dtype) for y in wanted])
            gradients = {"x": leaf.grad, "v0": start.grad if start is not None else None}
            gradients |= {k: given[k].grad for k in constants if torch.is_tensor(given[k])}
            found.append((outputs, {k: g for k, g in gradients.items() if g is not None}))
    return found


def check(found, dtype=torch.float32):
    (expected, expected_grads), (outputs, grads) = found
    for name, y in outputs.items():
        assert torch.equal(y, expected[name]), name
    for name, g in grads.items():
        scale = float(expected_grads[name].abs().max())
        bound = {torch.float32: 1e-6, torch.bfloat16: 2**-8, torch.float16: 2**-11}[dtype] if name == "x" else 1e-5
        assert float((g.float() - expected_grads[name].float()).abs().max()) <= bound * max(scale, 1e-30), name
    assert 0.05 < float(outputs["spikes"].detach().float().mean()) < 0.95, "nothing is decided here"


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("detach", [True, False])
def test_every_variant_equals_the_reference(surrogate, reset, detach):
    options = {"reset": reset, "detach_reset": detach, "surrogate": surrogate, "v_rest": -0.2, "v_reset": 0.1}
    x = random(6, 3, 5, 7, 3)
    check(both(x, random(3, 5, 7, 3, seed=1), (True, True, True), decay=0.6, gain=0.7, v_th=0.9, **options))


@pytest.mark.parametrize("name", ["baseline", "avx2", "avx512"])
@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: type(s).__name__)
def test_every_instruction_set(name, surrogate):
    native = forms.native()
    if name not in native.instruction_sets():
        pytest.skip(f"this machine has no {name}")
    before = native.instruction_set()
    native.use_instruction_set(name)
    try:
        assert native.instruction_set() == name
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            check(both(random(3, 2, 37).to(dtype), decay=0.5, gain=1.0, v_th=1.0, surrogate=surrogate), dtype)
    finally:
        native.use_instruction_set(before)
    with pytest.raises(ValueError, match="no kernels for sse9"):
        native.use_instruction_set("sse9")


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("v_th", [1.0, 0.3])
def test_inputs_within_two_ulp_of_the_threshold(reset, v_th):
    """Each step's input is placed so that the potential lands 2 ulp below the threshold to 2 ulp above it."""
    T, n = 5, 999
    offsets = torch.randint(-2, 3, (T, n), generator=torch.Generator().manual_seed(0))
    decay, gain, th = np.float32(0.6), np.float32(0.7), np.float32(v_th)
    rows, v = [], np.zeros(n, np.float32)
    for t in range(T):
        target = np.full(n, th, np.float32)
        for _ in range(2):
            up, down = np.nextafter(target, np.float32(9)), np.nextafter(target, np.float32(-9))
            k = offsets[t].numpy()
            target = np.where(k > _, up, np.where(k < -_, down, target))
        x = ((target - decay * v) / gain).astype(np.float32)
        u = decay * v + gain * x
        s = (u >= th).astype(np.float32)
        v = {"hard": u * (1 - s), "soft": u - th * s, "none": u}[reset].astype(np.float32)
        rows.append(torch.from_numpy(x))
    x = torch.stack(rows).unsqueeze(1)
    constants = {"decay": float(decay), "gain": float(gain), "v_th": float(th), "surrogate": ATan()}
    found = both(x, reset=reset, **constants)
    check(found)
    distance = (found[0][0]["potentials"].detach() - float(th)).abs() / np.spacing(th)
    assert float((distance <= 4).float().mean()) > 0.9, "the inputs are not near the threshold"


layouts = st.sampled_from(["contiguous", "channels_last", "sliced", "offset", "batch_first", "expanded"])


def laid_out(x, layout):
    T = x.shape[0]
    if layout == "channels_last" and x.dim() == 5:
        return x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, x.shape[:2])
    if layout == "sliced":
        return torch.stack((x, x), -1)[..., 0]
    if layout == "offset":
        return torch.cat((x[:1], x))[1:]
    if layout == "batch_first":
        return x.transpose(0, 1).contiguous().transpose(0, 1)
    return x[:1].expand(T, *x.shape[1:]) if layout == "expanded" and T else x


@given(
    shape=st.lists(st.integers(0, 5), min_size=2, max_size=5),
    layout=layouts,
    reset=st.sampled_from(RESETS),
    surrogate=st.sampled_from(SURROGATES),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64]),
    decay=st.sampled_from([0.0, 0.25, 0.9, 1.0]),
    v_th=st.sampled_from([0.3, 1.0]),
    per_channel=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_any_shape_order_and_type(shape, layout, reset, surrogate, dtype, decay, v_th, per_channel, seed):
    x = laid_out(random(*shape, seed=seed), layout).to(dtype)
    if layout == "expanded" and shape[0]:
        x = x[:1].expand(*shape)
    threshold = torch.full((shape[2], *[1] * (len(shape) - 3)), v_th) if per_channel and len(shape) > 2 else v_th
    options = {"decay": decay, "gain": 0.8, "v_th": threshold, "reset": reset, "surrogate": surrogate}
    results = []
    for form in ("reference", "native"):
        with kernels.use(form):
            leaf = x.detach().requires_grad_()
            s, v, u = lif(leaf, record=True, **options)
            if shape[0]:  # without a step the reference has nothing to differentiate
                s.backward(random(*shape, seed=3).to(dtype))
            results.append((s, v, u, leaf.grad))
    for a, b in zip(results[0][:3], results[1][:3], strict=True):
        assert torch.equal(a, b)
        assert a.dtype == b.dtype
    tolerance = {torch.bfloat16: 2**-8, torch.float16: 2**-11}.get(dtype, 1e-6)
    a, b = results[0][3], results[1][3]
    if shape[0]:
        assert a.shape == b.shape
    if leaf.numel():  # of few elements, all may lie in a tail
        assert float((a - b).abs().max()) <= tolerance * max(float(a.abs().max()), 1.0)


@pytest.mark.parametrize("T", [1, 2, 64, 1024])
def test_any_length(T):
    check(both(random(T, 2, 9), decay=0.9, gain=0.5, v_th=1.0, surrogate=Triangle()))


def test_large_tensors_written_past_the_cache():
    """Above 16 MB other code runs; 13 neurons a sample keep rows out of alignment."""
    check(both(random(5, 70_001, 13), decay=0.5, gain=1.0, v_th=1.0, surrogate=ATan()))


@pytest.mark.parametrize("constant", ["decay", "gain", "v_th"])
@pytest.mark.parametrize("shape", [(), (1,), (5, 1, 1), (4, 3), (3, 5, 1, 1), (3, 1, 1, 3), (3, 5, 4, 3), (5, 4, 3)])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_gradients_of_constants(constant, shape, reset, layout):
    """Against the reference in float64, for single numbers, one a channel and any that broadcasts."""
    x, g = laid_out(random(6, 3, 5, 4, 3), layout), random(6, 3, 5, 4, 3, seed=5)
    options = {"decay": 0.6, "gain": 0.7, "v_th": 0.9, "reset": reset, "surrogate": Gaussian(), "detach_reset": False}
    value = torch.rand(shape, generator=torch.Generator().manual_seed(2)) * 0.3 + 0.5
    found = []
    for dtype, form in ((torch.float64, "reference"), (torch.float32, "native")):
        with kernels.use(form):
            leaf = value.to(dtype).requires_grad_()
            s, _, _ = lif(x.to(dtype), **options | {constant: leaf})
            (s * g).sum().backward()
            found.append((s, leaf.grad))
    assert torch.equal(found[0][0].float(), found[1][0])
    assert found[1][1].shape == shape
    assert float((found[0][1] - found[1][1]).abs().max()) <= 1e-5 * float(found[0][1].abs().max())


def test_learnable_tau_against_float64():
    x, g = random(8, 4, 50), random(8, 4, 50, seed=1)
    found = []
    for dtype, form in ((torch.float64, "reference"), (torch.float32, "native")):
        with kernels.use(form):
            layer = NEURONS["plif"].build().to(dtype)
            (layer(x.to(dtype)) * g).sum().backward()
            found.append(layer.w.grad.item())
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_one_input_shown_t_times_is_read_and_summed_in_place():
    image = random(3, 4, 5, 5).requires_grad_()
    layer = LIF()
    g = random(6, 3, 4, 5, 5, seed=1)
    y = layer(image.mul(1.0).unsqueeze(0).expand(6, -1, -1, -1, -1))
    assert type(y.grad_fn.next_functions[0][0]).__name__ == "MulBackward0", "the expansion should be stepped over"
    y.backward(g)
    shown = image.detach().clone().requires_grad_()
    other = layer(shown.mul(1.0).repeat(6, 1, 1, 1, 1))
    other.backward(g)
    assert torch.equal(y, other)
    assert torch.allclose(image.grad, shown.grad, rtol=1e-6, atol=1e-7)


def test_hooks_on_an_expanded_input_still_see_every_step():
    seen = []
    x = random(3, 4).requires_grad_().mul(1.0).expand(6, 3, 4)
    x.register_hook(lambda g: seen.append(g.shape))
    LIF()(x).sum().backward()
    assert seen == [(6, 3, 4)]


def test_keeps_its_input_and_nothing_else():
    kept = []
    x = random(16, 4, 1000).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        LIF()(x)
    assert [t.data_ptr() for t in kept] == [x.data_ptr()]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(threads):
    x, g = random(8, 3, 40_000), random(8, 3, 40_000, seed=1)

    def run():
        layer = NEURONS["plif"].build()
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        y.backward(g)
        return y, leaf.grad, layer.w.grad

    before = torch.get_num_threads()
    expected = run()
    torch.set_num_threads(threads)
    try:
        assert all(torch.equal(a, b) for a, b in zip(run(), expected, strict=True))
    finally:
        torch.set_num_threads(before)


def test_potentials_that_are_not_finite_never_fire_and_show():
    inf, nan = float("inf"), float("nan")
    x = torch.tensor([[inf, -inf, nan, 3.0], [0.0, 0.0, 0.0, 0.0], [inf, inf, 5.0, 3.0]]).unsqueeze(1)
    for form in ("reference", "native"):
        with kernels.use(form):
            s, v, u = lif(x, decay=0.5, gain=1.0, v_th=1.0, surrogate=ATan(), record=True)
        assert s[..., :3].count_nonzero() == 0
        assert s[:, 0, 3].tolist() == [1, 0, 1]
        assert not v[0, :3].isfinite().any()
        assert not u[:, 0, :3].isfinite().any()


class Steep(ATan):
    """A surrogate of one's own, derived from a known one."""

    def derivative(self, distance):
        return torch.full_like(distance, 7.0)


def test_surrogates_of_ones_own_are_called():
    x = random(1, 1, 4).requires_grad_()
    lif(x, decay=0.5, gain=1.0, v_th=1.0, surrogate=Steep())[0].sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, 7.0))


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf"
)  # which torch 2.15's check looks at
def test_operator_is_registered_properly():
    x = random(4, 2, 3).requires_grad_()
    plain = [0.5, 1.0, 1.0, 0.0, 0.0, 2.0]
    torch.library.opcheck(lif_operator, (x, None, None, None, None, plain, [0, 1, 0], True, True))
    tensors = (
        random(2, 3).requires_grad_(),
        torch.tensor(0.5, requires_grad=True),
        torch.rand(3, requires_grad=True),
        None,
    )
    torch.library.opcheck(lif_operator, (x, *tensors, [0.0, 0.0, 1.0, 0.0, 0.0, 2.0], [1, 0, 1], False, True))


def test_no_second_derivative_in_silence():
    x = random(3, 2, 4).requires_grad_()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(LIF()(x).sum(), x, create_graph=True)


def test_autocast_and_empty_and_threads_of_python():
    with torch.autocast("cpu", torch.bfloat16):
        y = LIF()(torch.nn.functional.linear(random(3, 2, 8), random(8, 8, seed=1)))
    assert y.dtype == torch.bfloat16
    found = []
    layer, x = LIF(), random(4, 2, 5000)
    workers = [threading.Thread(target=lambda: found.append(layer(x))) for _ in range(4)]
    [w.start() for w in workers]
    [w.join() for w in workers]
    assert all(torch.equal(y, layer(x)) for y in found)


FORKED = """
import os, torch
from saccade.neurons import LIF
torch.set_num_threads(2)
x = torch.randn(8, 8, 40_000)
expected = LIF()(x)
child = os.fork()
if child == 0:
    os._exit(0 if (LIF()(x).numpy() == expected.numpy()).all() else 1)  # torch's own parallel loops do hang here
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

WORKER = """
import torch
from saccade.neurons import LIF
class Set(torch.utils.data.Dataset):
    def __len__(self): return 4
    def __getitem__(self, i): return LIF()(torch.ones(8, 8, 40_000)).sum()
LIF()(torch.ones(8, 8, 40_000))
got = [float(x) for x in torch.utils.data.DataLoader(Set(), num_workers=2)]
assert got == [float(Set()[0])] * 4, got
"""


@pytest.mark.parametrize("program", [FORKED, WORKER], ids=["fork", "DataLoader"])
def test_a_forked_child_does_not_hang(program):
    env = os.environ | {"OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env=env)


MISSING = """
import sys, warnings
sys.modules["saccade._native"] = None
import torch
from saccade.neurons import LIF
from saccade import kernels
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    y = LIF()(torch.full((2, 1, 3), 3.0)); LIF()(torch.ones(2, 1, 3))
said = [str(w.message) for w in caught if "native kernels are not there" in str(w.message)]
assert len(said) == 1, said
assert y.sum() == 6 and not kernels.has_native() and not kernels.keep_memory()
"""


def test_without_the_native_library_the_reference_runs_with_one_warning():
    subprocess.run([sys.executable, "-c", MISSING], check=True, timeout=60)


def test_unknown_and_impossible_forms():
    env = os.environ | {"SACCADE_KERNEL": "cuda"}
    program = "import torch; from saccade.neurons import LIF; LIF()(torch.ones(2, 2))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=env)
    assert (
        "ValueError: unknown kernel form 'cuda' (SACCADE_KERNEL); known: auto, reference, native, triton" in run.stderr
    )
    with pytest.raises(ValueError, match="unknown kernel form 'fast'"), kernels.use("fast"):
        pass


def test_bad_input():
    options = {"decay": 0.5, "gain": 1.0, "v_th": 1.0, "surrogate": ATan()}
    with pytest.raises(TypeError, match=r"takes floating input, got torch.int64"):
        lif(torch.ones(2, 2, dtype=torch.long), **options)
    with pytest.raises(ValueError, match=r"a state \[3\] does not fit an input \[2, 2\]"):
        lif(torch.ones(2, 2), torch.zeros(3), **options)
    with pytest.raises(ValueError, match=r"a constant of shape \[3\] does not broadcast against a step \[2, 4\]"):
        lif(torch.ones(5, 2, 4), **options | {"v_th": torch.ones(3)})


def test_no_python_for_each_step():
    layer = LIF().eval()

    def calls(T):
        x, count = random(T, 2, 8), 0

        def note(frame, event, argument):
            nonlocal count
            count += event in ("call", "c_call")

        layer(x)
        sys.setprofile(note)
        try:
            with torch.inference_mode():
                layer(x)
        finally:
            sys.setprofile(None)
        return count

    assert calls(64) == calls(2) > 0
