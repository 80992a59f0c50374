"""The Triton form of the LIF kernel against the reference: on a GPU, or in Triton's interpreter.

The interpreter must be chosen before Triton is imported, and torch.compile imports it too: without a GPU these tests run in a
process of their own, ``test_in_the_interpreter``.
"""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from saccade.kernels import has_triton, lif, use
from saccade.kernels.operator import lif_operator
from saccade.neurons import ATan, Gaussian, Rectangle, Sigmoid, StraightThrough, Triangle

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
RESETS = ("hard", "soft", "none")
SURROGATES = (ATan(), Sigmoid(), Triangle(), Rectangle(), Gaussian(), StraightThrough())
CONSTANTS = {"decay": 0.6, "gain": 0.7, "v_th": 0.9, "v_rest": -0.1, "v_reset": 0.2, "surrogate": ATan()}

needs_triton = pytest.mark.skipif(not has_triton(), reason="Triton is not installed")
not_interpreted = pytest.mark.skipif(INTERPRETED, reason="in the interpreter already")
on_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.fixture(params=["cpu"] if INTERPRETED else [pytest.param("cuda", marks=on_gpu)])
def device(request):
    return request.param


def normal(*shape, seed=0, scale=1.0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def outputs_and_gradients(form, x, v0=None, **constants):
    """Spikes, last potential, potentials; then the gradients of x, v0 and the constants that are tensors."""
    leaves = [x, *([] if v0 is None else [v0]), *(c for c in constants.values() if isinstance(c, torch.Tensor))]
    leaves = [leaf.requires_grad_(leaf.is_floating_point()) for leaf in leaves]
    with use(form):
        outputs = lif(x, v0, **constants, record=True)
    weights = [normal(*y.shape, seed=seed).to(y.device) for seed, y in enumerate(outputs)]
    total = sum((y * w).sum() for y, w in zip(outputs, weights, strict=True))
    return outputs, torch.autograd.grad(total, leaves, materialize_grads=True)  # of nothing there is nothing to use


def assert_close(found, expected, relative=1e-6):
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    if expected.numel():
        assert (found - expected).abs().max() <= relative * expected.abs().max()


def assert_same(found, expected, relative=1e-6):
    """Outputs bit for bit, gradients up to rounding."""
    for a, b in zip(found[0], expected[0], strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    for a, b in zip(found[1], expected[1], strict=True):
        assert_close(a, b, relative)


def against_reference(x, v0=None, relative=1e-6, **constants):
    found = outputs_and_gradients("triton", x, v0, **constants)
    assert_same(found, outputs_and_gradients("reference", x, v0, **constants), relative)
    return found


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: s.formula)
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("reset", RESETS)
def test_every_variant(device, reset, detach, surrogate):
    x, v0 = normal(5, 2, 3, 7, scale=2).to(device), normal(2, 3, 7, seed=1).to(device)
    constants = CONSTANTS | {"reset": reset, "detach_reset": detach, "surrogate": surrogate}
    (spikes, _, _), _ = against_reference(x, v0, **constants)
    assert 0.1 < spikes.mean() < 0.9


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("rest", [0.0, -0.2])
def test_within_two_ulp_of_the_threshold(device, reset, rest):
    decay, gain, v_th = 0.9, 0.3, 0.7
    v0 = normal(64, seed=2).to(device)
    # currents around the one that lands on the threshold, a float apart
    middle = ((v_th - (rest + decay * (v0.double() - rest))) / gain).float()
    around = [middle]
    for _ in range(16):
        around.append(torch.nextafter(around[-1], torch.full_like(middle, torch.inf)))
        around.insert(0, torch.nextafter(around[0], torch.full_like(middle, -torch.inf)))
    x = torch.stack(around, dim=1)[None]
    constants = {"decay": decay, "gain": gain, "v_th": v_th, "v_rest": rest, "reset": reset, "surrogate": ATan()}
    (spikes, _, u), _ = against_reference(x, v0[:, None].expand(-1, x.shape[2]).contiguous(), **constants)
    threshold = torch.tensor(v_th, device=device)
    ulps = u.view(torch.int32) - threshold.view(torch.int32)
    assert {-2, -1, 0, 1, 2} <= set(ulps.unique().tolist())
    assert torch.equal(spikes.bool(), ulps >= 0)


@pytest.mark.parametrize("surrogate", [ATan(), Triangle()], ids=lambda s: s.formula)
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("shape", [(), (3, 1), (2, 1, 5), (2, 3, 5)], ids=str)
def test_gradients_of_constants(device, shape, reset, detach, surrogate):
    """Against float64, relative to what would be there if nothing cancelled."""
    x = normal(6, 2, 3, 5, seed=3, scale=2).to(device)
    values = [torch.full(shape, value) + 0.05 * normal(*shape, seed=4) for value in (0.6, 0.8, 1.0)]
    names = ("decay", "gain", "v_th")
    others = {"v_rest": -0.1, "v_reset": 0.2, "reset": reset, "detach_reset": detach, "surrogate": surrogate}
    found = outputs_and_gradients(
        "triton", x, **dict(zip(names, (v.to(device) for v in values), strict=True)), **others
    )
    for_each_neuron = [v.double().to(device).expand(2, 3, 5).clone() for v in values]
    expected = outputs_and_gradients(
        "reference", x.detach().double(), **dict(zip(names, for_each_neuron, strict=True)), **others
    )
    assert torch.equal(found[0][0].double(), expected[0][0])
    for gradient, parts in zip(found[1][1:], expected[1][1:], strict=True):
        assert gradient.shape == shape
        scale = parts.abs().sum_to_size(shape).max()
        assert ((gradient - parts.sum_to_size(shape)).abs() <= 1e-5 * scale).all()


@pytest.mark.parametrize("learnt", ["decay", "gain", "v_th"])
def test_one_tensor_among_numbers(device, learnt):
    constants = CONSTANTS | {learnt: torch.tensor([0.5, 0.7, 0.6], device=device).view(3, 1), "reset": "soft"}
    against_reference(normal(4, 2, 3, 5, scale=2).to(device), relative=1e-5, **constants)


def test_more_than_one_block(device):
    from saccade.kernels.triton_lif import BLOCK

    x = normal(3, 2, 3, BLOCK // 2 + 1, scale=2).to(device)
    v_th = torch.tensor([0.5, 0.7, 0.6], device=device).view(3, 1)
    against_reference(x, relative=1e-5, **CONSTANTS | {"v_th": v_th})


def test_channels_last(device):
    x = normal(4, 2, 3, 4, 5, scale=2).to(device)
    v0 = normal(2, 3, 4, 5, seed=1).to(device)
    constants = CONSTANTS | {
        "reset": "soft",
        "v_th": torch.tensor([0.5, 0.9, 0.7], device=device).view(3, 1, 1),
        "decay": 0.5 + 0.1 * normal(3, 4, 5, seed=5).to(device),  # along several axes
    }
    order = x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (4, 2))
    found = outputs_and_gradients("triton", order, v0, **constants)
    (spikes, v, u), (grad_x, *_) = found
    assert spikes.stride() == u.stride() == grad_x.stride() == order.stride()
    assert v.stride() == order.stride()[1:]
    assert_same(found, outputs_and_gradients("reference", x, v0, **constants), 1e-5)


@pytest.mark.parametrize("reset", RESETS)
def test_one_step(device, reset):
    against_reference(normal(1, 2, 7, scale=2).to(device), **CONSTANTS | {"reset": reset})


@pytest.mark.parametrize(("shape", "channels"), [((0, 2, 3), 3), ((3, 0, 3), 3), ((3, 2, 0), 1)])
def test_empty(device, shape, channels):
    x, v0 = torch.zeros(shape, device=device), torch.ones(shape[1:], device=device)
    constants = CONSTANTS | {"decay": torch.ones(channels, device=device)}
    (spikes, v, u), (grad_x, grad_v0, grad_decay) = outputs_and_gradients("triton", x, v0, **constants)
    assert spikes.shape == u.shape == grad_x.shape == shape
    assert torch.equal(v, v0)
    assert torch.equal(grad_v0, normal(*shape[1:], seed=1).to(device))  # that of v
    assert grad_decay.tolist() == [0] * channels


def test_the_first_state_is_rest(device):
    with use("triton"):
        assert lif(torch.zeros(0, 3, device=device), **CONSTANTS)[1].tolist() == torch.full((3,), -0.1).tolist()


@pytest.mark.parametrize("reset", RESETS)
def test_spikes_alone(device, reset):
    x = normal(4, 2, 5, scale=2).to(device).requires_grad_()
    found = []
    for form in ("triton", "reference"):
        with use(form):
            spikes, v, u = lif(x, **CONSTANTS | {"reset": reset}, last=False)
        assert v is None
        assert u is None
        found.append((spikes, *torch.autograd.grad((spikes * normal(4, 2, 5, seed=7).to(device)).sum(), x)))
    assert torch.equal(found[0][0], found[1][0])
    assert_close(found[0][1], found[1][1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("reset", RESETS)
def test_half_precision(device, dtype, reset):
    x, v0 = normal(6, 2, 9, scale=2).to(device, dtype), normal(2, 9, seed=1).to(device)
    constants = CONSTANTS | {"reset": reset}
    rounding = torch.finfo(dtype).eps
    (spikes, v, u), (grad_x, _) = against_reference(x, v0, relative=rounding, **constants)
    assert spikes.dtype == grad_x.dtype == dtype
    assert v.dtype == u.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("learnt", [True, False])
def test_one_step_shown_many_times(device, dtype, learnt):
    step = normal(2, 3, 5, scale=2).to(device, dtype).requires_grad_()
    constants = CONSTANTS | ({"gain": torch.tensor(0.7, device=device, requires_grad=True)} if learnt else {})

    def run(form, x):
        leaves = [step, *([constants["gain"]] if learnt else [])]
        with use(form):
            outputs = lif(x, **constants, record=True)
        weights = [normal(*y.shape, seed=6).to(device, dtype) for y in outputs]  # no rounding of the spikes' gradient
        total = sum((y.float() * w.float()).sum() for y, w in zip(outputs, weights, strict=True))
        return outputs, torch.autograd.grad(total, leaves, materialize_grads=True)  # of nothing there is nothing to use

    # the reference sums in the input's type: give it one that does not round
    expected = run("reference", step.float().expand(6, 2, 3, 5))
    found = run("triton", step.expand(6, 2, 3, 5))
    assert found[0][0].stride(0) == step.numel()
    for a, b in zip(found[0], expected[0], strict=True):
        assert torch.equal(a.float(), b)
    for a, b in zip(found[1], expected[1], strict=True):
        assert_close(a, b, 1e-5 if a.dtype == torch.float32 else torch.finfo(dtype).eps)
    with use("triton"), torch.no_grad():
        assert torch.equal(lif(step.expand(6, 2, 3, 5), **constants)[0], found[0][0])


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_never_fires_and_stays(device, reset, value):
    x = torch.tensor([[value, 2.0], [5.0, 5.0]], device=device)
    constants = {"decay": 0.5, "gain": 1.0, "v_th": 1.0, "reset": reset, "surrogate": ATan()}
    with np.errstate(invalid="ignore"):  # in the interpreter
        with use("triton"):
            spikes, v, u = lif(x, **constants, record=True)
        with use("reference"):
            expected = lif(x, **constants, record=True)
        assert spikes.tolist() == [[0, 1], [0, 1]]
        assert not v[0].isfinite()
        for a, b in zip((spikes, v, u), expected, strict=True):
            assert torch.equal(a.nan_to_num(nan=7.0), b.nan_to_num(nan=7.0))


@pytest.mark.parametrize("asked", [(True, False, False), (False, True, False), (False, False, True)])
def test_only_some_gradients(device, asked):
    """Outputs that nobody used, and inputs that need no gradient."""
    x, v0 = normal(4, 2, 5, scale=2).to(device).requires_grad_(asked[0]), normal(2, 5, seed=1).to(device)
    v0.requires_grad_(asked[1])
    decay = torch.tensor(0.6, device=device, requires_grad=asked[2])
    leaf = next(leaf for leaf, wanted in zip((x, v0, decay), asked, strict=True) if wanted)
    for output in range(3):
        gradients = []
        for form in ("triton", "reference"):
            with use(form):
                y = lif(x, v0, **CONSTANTS | {"decay": decay}, record=True)[output]
            gradients.append(torch.autograd.grad((y * normal(*y.shape, seed=7).to(device)).sum(), leaf)[0])
        assert_close(*gradients, 1e-5)


def test_the_operator_for_the_compiler(device):
    x = normal(4, 2, 3, 5, scale=2).to(device).requires_grad_()
    v_th = torch.tensor([0.5, 0.7, 0.6], device=device).view(3, 1).requires_grad_()
    numbers, choices = [0.6, 0.7, 0.0, -0.1, 0.2, 2.0], [RESETS.index("soft"), 1, 0]
    constants = CONSTANTS | {"v_th": v_th, "reset": "soft"}
    with use("triton"):
        spikes, v, u = lif_operator(x, None, None, None, v_th, numbers, choices, True, False)
        found = torch.autograd.grad(spikes.sum() + v.sum(), (x, v_th))
    with use("reference"):
        expected = lif(x, **constants)
        wanted = torch.autograd.grad(expected[0].sum() + expected[1].sum(), (x, v_th))
    assert torch.equal(spikes, expected[0])
    assert torch.equal(v, expected[1])
    assert u.numel() == 0
    for a, b in zip(found, wanted, strict=True):
        assert_close(a, b, 1e-5)


def test_whole_numbers_as_constants(device):
    x = normal(3, 2, 5, scale=2).to(device)
    against_reference(x, decay=1, gain=1, v_th=1, v_rest=1, v_reset=0, surrogate=Rectangle(1))


def test_a_constant_without_axes_on_the_cpu(device):
    decay = torch.tensor(0.6)
    (_, (_, gradient)) = against_reference(
        normal(3, 2, 5, scale=2).to(device), relative=1e-5, **CONSTANTS | {"decay": decay}
    )
    assert gradient.device.type == "cpu"


@needs_triton
@not_interpreted
def test_in_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:benchmark", __file__]
    run = subprocess.run(
        command,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]


@needs_triton
@not_interpreted
def test_compiles_for_a_gpu_without_fused_multiply_adds(monkeypatch, tmp_path):
    """On tensors without memory, for a GPU that need not be there."""
    import triton
    from triton.backends.compiler import GPUTarget

    class Nowhere:
        def get_current_device(self):
            return -1  # no kernel of a real device is taken for one of these

        def get_current_stream(self, device):
            return 0

        def get_current_target(self):
            return GPUTarget("cuda", 80, 32)

    compiled = []
    launch = triton.JITFunction.run

    def only_compile(self, *args, **kwargs):
        compiled.append(launch(self, *args, **kwargs | {"warmup": True}).asm["ptx"])

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(triton.JITFunction, "run", only_compile)
    monkeypatch.setattr(type(triton.runtime.driver), "active", Nowhere())
    variants = itertools.zip_longest(RESETS * 2, SURROGATES, [torch.float32, torch.bfloat16, torch.float16] * 2)
    for number, (reset, surrogate, dtype) in enumerate(variants):
        learnt = torch.empty(3, 1, device="meta", requires_grad=True) if number % 2 else 0.5
        constants = dict.fromkeys(("decay", "gain", "v_th"), learnt)
        x = torch.empty(1 if number == 0 else 4, 2, 3, 8, device="meta", dtype=dtype, requires_grad=True)
        v0 = torch.empty(2, 3, 8, device="meta", requires_grad=True) if number > 2 else None
        with use("triton"):
            spikes, v, _ = lif(
                x,
                v0,
                **constants,
                reset=reset,
                detach_reset=number > 3,
                surrogate=surrogate,
                record=number > 2,
            )
            (spikes.sum() + v.sum()).backward()
    assert len(compiled) == 2 * len(SURROGATES)
    for code in compiled:
        assert re.search(r"\bmul\S*\.f32", code)
        assert not re.search(r"\b(fma|mad)\S*\.f32", code)


@needs_triton
@not_interpreted
def test_a_cpu_without_the_interpreter_is_refused():
    with use("triton"), pytest.raises(RuntimeError, match="TRITON_INTERPRET=1"):
        lif(torch.zeros(2, 3), **CONSTANTS)


def test_triton_is_asked_for_and_missing():
    code = "import sys; sys.modules['triton'] = None; import torch\nfrom saccade.neurons import LIF\n"
    code += "from saccade.kernels import use\n"
    code += "with use('triton'): LIF()(torch.zeros(2, 3))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "RuntimeError: SACCADE_KERNEL=triton" in done.stderr
    assert "pip install 'saccade-snn[triton]'" in done.stderr
