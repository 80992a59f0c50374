"""The native kernels on tensors of any layout, against their references: 10,000 a kernel in the slow run, a 100th by default.

A case is made from its number alone, so that one that fails can be run by itself: ``check_lif(4711)``.
"""

import math

import numpy as np
import pytest
import torch

from saccade import kernels
from saccade.dehaze import Dehazer, Settings, clahe, native
from saccade.kernels import bits, lif, mix, pool
from saccade.neurons import ATan, Gaussian, Rectangle, Sigmoid, StraightThrough, Triangle

pytestmark = pytest.mark.skipif(not kernels.has_native(), reason="the native kernels are not built")

CASES = 10_000
SURROGATES = [ATan(), Sigmoid(), Triangle(), Rectangle(), Gaussian(), StraightThrough()]
HALVES = {torch.bfloat16: 2**-8, torch.float16: 2**-11}
TYPES = [torch.float32, torch.float32, *HALVES]


def any_shape(rng, least, most):
    """Sizes 0 and 1 among them, and now and then an axis long enough for several chunks and threads."""
    shape = [
        int(rng.choice([0, 1, 1, 2, 3, 4, 5, 7, 8, 9, 17], p=[0.02, *[0.098] * 10]))
        for _ in range(rng.integers(least, most + 1))
    ]
    if rng.random() < 0.2 and math.prod(shape) < 300:
        shape[-1] = int(rng.integers(60, 700))
    return shape


def laid_out(rng, values):
    """``values`` with other strides: axes in any order of memory, gaps, an offset, axes that are expanded."""
    shape = list(values.shape)
    kind = rng.random()
    if kind < 0.2:
        return values.contiguous()
    order = list(rng.permutation(len(shape)))
    step = int(rng.integers(1, 4)) if kind > 0.6 else 1
    expanded = {axis for axis in range(len(shape)) if rng.random() < 0.1 and shape[axis]} if kind > 0.4 else set()
    sizes = [1 if axis in expanded else shape[axis] for axis in order]
    if sizes and step > 1:
        sizes[-1] *= step
    offset = int(rng.integers(0, 5))
    memory = torch.full(
        (offset + math.prod(sizes) + 3,), math.nan, dtype=values.dtype
    )  # what lies between must not be read
    view = memory[offset : offset + math.prod(sizes)].view(sizes)
    if sizes and step > 1:
        view = view[..., ::step]
    view = view.permute([order.index(axis) for axis in range(len(shape))])
    part = values[tuple(slice(0, 1) if axis in expanded else slice(None) for axis in range(len(shape)))]
    view.copy_(part)
    return view.expand(shape)


def numbers(rng, *shape):
    return torch.from_numpy(np.asarray(rng.normal(0, 2, shape), np.float32))


def constant(rng, value, step):
    """A number, or a tensor that broadcasts against a step ``[N, ...]``, in any layout."""
    if rng.random() < 0.6:
        return value
    shape = [size if rng.random() < 0.5 else 1 for size in step[int(rng.integers(0, len(step) + 1)) :]]
    return laid_out(rng, value + 0.1 * numbers(rng, *shape).clamp(-2, 2))


def check_lif(case):
    rng = np.random.default_rng([1, case])
    shape = any_shape(rng, 2, 5)
    dtype = TYPES[rng.integers(len(TYPES))]
    x = laid_out(rng, numbers(rng, *shape).to(dtype))
    v0 = laid_out(rng, numbers(rng, *shape[1:])) if rng.random() < 0.4 else None
    given = {"decay": 0.6, "gain": 0.7, "v_th": 0.9}
    given = {key: constant(rng, value, shape[1:]) for key, value in given.items()}
    given |= {"v_rest": float(rng.choice([0, -0.2])), "v_reset": float(rng.choice([0, 0.1]))}
    given |= {"reset": str(rng.choice(["hard", "soft", "none"])), "detach_reset": bool(rng.random() < 0.5)}
    given |= {
        "surrogate": SURROGATES[rng.integers(6)],
        "last": bool(rng.random() < 0.5),
        "record": bool(rng.random() < 0.5),
    }
    grad = laid_out(rng, numbers(rng, *shape).to(dtype))
    found = []
    for form in ("reference", "native"):
        with kernels.use(form):
            leaves = {
                key: value.detach().requires_grad_()
                for key, value in ({"x": x, "v0": v0} | given).items()
                if torch.is_tensor(value)
            }
            outputs = lif(
                leaves["x"],
                leaves.get("v0"),
                **given | {key: leaf for key, leaf in leaves.items() if key not in ("x", "v0")},
            )
            if outputs[0].requires_grad:
                outputs[0].backward(grad)
            found.append((outputs, {key: leaf.grad for key, leaf in leaves.items()}))
    (expected, expected_grads), (outputs, grads) = found
    for a, b in zip(expected, outputs, strict=True):
        assert (a is None) == (b is None)
        assert a is None or (a.dtype == b.dtype and torch.equal(a, b))
    for key, a in expected_grads.items():
        b = grads[key]
        if a is None or b is None:  # without a step there is nothing to differentiate
            assert x.numel() == 0
            continue
        assert a.shape == b.shape
        a, b = a.double(), b.double()
        apart = a != b  # both may be infinite in float16
        if apart.any():
            # of a constant, sums of many terms in another order
            bound = HALVES.get(dtype, 1e-5) if key == "x" else 1e-4 * math.sqrt(max(x.numel(), 1))
            assert float((a - b)[apart].abs().max()) <= bound * max(float(a.abs().max()), 1.0), key


def check_bits(case):
    rng = np.random.default_rng([2, case])
    grid = bits.GRIDS[rng.integers(len(bits.GRIDS))]
    shape = any_shape(rng, 1, 5)
    index = torch.from_numpy(rng.integers(0, 1 << grid.planes, shape))
    values = ((index + grid.low) * grid.unit).to(TYPES[rng.integers(len(TYPES))])
    if values.numel() and rng.random() < 0.2:
        values.view(-1)[int(rng.integers(values.numel()))] = float(rng.choice([0.3, -7, 100, math.nan, math.inf]))
    x = laid_out(rng, values)
    found = []
    for form in ("reference", "native"):
        with kernels.use(form):
            packed = bits.pack(x, grid)
            found.append((packed, None if packed is None else bits.unpack(*packed)))
    (expected, back), (packed, native_back) = found
    assert (expected is None) == (packed is None)
    if expected is not None:
        assert torch.equal(expected.planes, packed.planes)
        assert torch.equal(back, x)
        assert torch.equal(native_back, x)


def check_pool(case):
    rng = np.random.default_rng([3, case])
    k = int(rng.integers(1, 5))
    n, c, h, w = any_shape(rng, 4, 4)
    shape = (n, c, min(h, 20) * k, min(w, 200) * k)
    x = laid_out(rng, numbers(rng, *shape)).requires_grad_()
    if not pool.can_average(x, k):
        raise AssertionError(f"not taken: {shape}, {k}")
    y = pool.average(x, k)
    if 0 in shape:
        assert y.numel() == 0
        return
    grad = laid_out(rng, numbers(rng, *y.shape))
    (found,) = torch.autograd.grad(y, x, grad)
    plain = torch.nn.functional.avg_pool2d(x, k)
    (expected,) = torch.autograd.grad(plain, x, grad)
    torch.testing.assert_close(y, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def check_mix(case):
    rng = np.random.default_rng([4, case])
    shape = any_shape(rng, 2, 5)
    x = laid_out(rng, numbers(rng, *shape)).requires_grad_()
    steps = int(rng.integers(1, 6))
    weights = laid_out(rng, numbers(rng, steps, shape[0])).requires_grad_()
    v_th = laid_out(rng, numbers(rng, *([] if rng.random() < 0.5 else [steps]))).requires_grad_()
    spikes, _ = mix(x, weights, v_th, Triangle())
    plain, potentials = mix(x, weights, v_th, Triangle(), record=True)
    sure = (potentials - v_th.expand(steps).view(-1, *[1] * (x.dim() - 1))).abs() > 1e-4
    assert torch.equal(spikes[sure], plain[sure])
    if x.numel():
        grad = laid_out(rng, numbers(rng, *spikes.shape))
        for a, b in zip(
            torch.autograd.grad(spikes, (x, weights, v_th), grad),
            torch.autograd.grad(plain, (x, weights, v_th), grad),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


def check_dehazing(case):
    """Pictures of any size, read from any array: within a level of NumPy's, where float32 rounds to another side."""
    rng = np.random.default_rng([5, case])
    height, width = (int(rng.integers(1, most)) for most in rng.permutation([12, 12, 90])[:2])
    coarse = rng.integers(30, 220, (height // 9 + 1, width // 9 + 1, 3))
    image = np.kron(coarse, np.ones((9, 9, 1)))[:height, :width] + rng.integers(-20, 20, (height, width, 3))
    image = np.clip(image, 0, 255).astype(np.uint8)
    view = [
        image,
        image[::-1, ::-1][::-1, ::-1],
        np.repeat(image, 2, 1)[:, ::2],
        image.transpose(1, 0, 2).copy().transpose(1, 0, 2),
    ]
    image = view[rng.integers(len(view))]
    odd = {
        "window": int(rng.choice([1, 3, 15, 101])),
        "radius": int(rng.choice([1, 6, 40])),
        "subsample": int(rng.choice([1, 2, 4])),
    }
    plain = Dehazer(Settings(**odd), "numpy")(image)
    found = Dehazer(Settings(**odd), "native")(image)
    if height * width >= 16:  # of fewer, Theta is the ratio of two numbers that may both be rounding errors
        assert np.abs(found.astype(int) - plain.astype(int)).max() <= 1
    levels = native.equalise(np.ascontiguousarray(image).copy(), 0.002)
    assert np.abs(levels.astype(int) - clahe(image).astype(int)).max() <= 1


CHECKS = {"lif": check_lif, "bits": check_bits, "pool": check_pool, "mix": check_mix, "dehazing": check_dehazing}


@pytest.mark.parametrize("share", [100, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kernel", CHECKS)
def test_any_layout(kernel, share):
    for case in range(0, CASES, share):
        try:
            CHECKS[kernel](case)
        except AssertionError as error:
            raise AssertionError(f"{kernel}, case {case}: {error}") from error
