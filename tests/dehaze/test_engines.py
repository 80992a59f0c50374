"""Native, NumPy and torch give the same pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade import _native
from saccade.dehaze import Dehazer, Settings, batch, clahe, method, native, windows

SIZES = [(1, 1), (1, 9), (7, 1), (5, 7), (34, 36), (71, 70), (90, 700), (300, 3)]


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 220, (height // 9 + 1, width // 9 + 1, 3))
    whole = np.kron(coarse, np.ones((9, 9, 1)))[:height, :width] + rng.integers(-20, 20, (height, width, 3))
    return np.clip(whole, 0, 255).astype(np.uint8)


def check_equal(image: np.ndarray, change: Settings) -> None:
    """One level apart at most, where float32 and float64 round to different sides."""
    plain, parts = Dehazer(change, "numpy")(image, return_parts=True)
    others = [
        Dehazer(change, engine)(x, return_parts=True) for engine, x in (("native", image), ("torch", tensor(image)))
    ]
    for found, own in others:
        if isinstance(found, torch.Tensor):
            found = found[0].permute(1, 2, 0).numpy()
            assert float(own.theta) == pytest.approx(parts.theta, rel=1e-4)
            np.testing.assert_allclose(own.transmission[0].numpy(), parts.transmission, atol=2e-4)
        else:
            np.testing.assert_allclose(own.airlight, parts.airlight, atol=1e-12)
            assert own.theta == pytest.approx(parts.theta, rel=1e-4, abs=1e-6)
            assert own.clamped == parts.clamped
            assert own.below_bound == pytest.approx(parts.below_bound, abs=max(2e-3, 1.1 / plain[..., 0].size))
            np.testing.assert_allclose(own.order, parts.order, atol=1e-6)
            np.testing.assert_allclose(own.transmission, parts.transmission, atol=2e-4)
            assert own.outside == pytest.approx(parts.outside, abs=2e-3)
        difference = np.abs(found.astype(int) - plain.astype(int))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.002


@pytest.mark.parametrize("size", SIZES)
def test_engines_agree_on_every_size(size):
    check_equal(picture(*size), Settings())
    check_equal(picture(*size), Settings(subsample=3))


@pytest.mark.parametrize(
    "change", [{"high": np.inf}, {"airlight_window": 55, "guide_eps": 0.02}, {"window": 5, "radius": 3}]
)
def test_engines_agree_under_other_settings(hazy, change):
    check_equal(hazy, Settings(**change))


def test_coarse_lines_agree_at_odd_ratios():
    for change in ({"radius": 35, "subsample": 2}, {"radius": 9, "subsample": 2}, {"radius": 10, "subsample": 4}):
        check_equal(picture(51, 70), Settings(**change))
    for shape in ((5, 7), (7, 1), (9, 40)):  # a last block that is mostly border: the side is not size over blocks
        for by in (3, 4, 6):
            check_equal(picture(*shape), Settings(subsample=by, radius=6))


def test_coarse_lines_by_hand():
    x = np.array([[0.0, 0, 0, 4]])
    np.testing.assert_allclose(method._shrink(x, 3), [[0, 4]])
    np.testing.assert_allclose(method._grow(np.array([[0.0, 4]]), (1, 4), 3), [[0, 0, 4 / 3, 8 / 3]], atol=1e-12)
    assert [method.coarse_radius(radius, 2) for radius in (1, 5, 9, 35)] == [1, 3, 5, 18]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("size", [(6, 9), (10, 10), (11, 23)])
def test_theta_at_the_edge_of_its_floor(size, seed):
    """Tiny pictures, where the percentile lies between the last value below max theta and the first above."""
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    plainly = image / 255.0
    A = method.airlight(plainly, 3)
    scene, bound = method.depth_order(plainly, A, 3), method.cube_bound(plainly, A)
    limit = (scene.order / np.maximum(bound, 1e-16) - scene.order * (1 - scene.weight)) / np.maximum(
        scene.weight, 1e-16
    )
    below = int((limit < scene.nearest).sum())
    for rest in (-0.5, 0.05, 0.5, 0.99, 1.2):
        change = Settings(window=3, airlight_window=3, radius=3, eps=(below - 0.5 + rest) / limit.size)
        _, plain = Dehazer(change, "numpy")(image, return_parts=True)
        _, own = Dehazer(change, "native")(image, return_parts=True)
        assert own.theta == pytest.approx(plain.theta, rel=1e-4)
        if plain.theta > plain.nearest * 1.0001:  # closer, float32 may fall on the other side
            assert not own.clamped


@pytest.mark.parametrize("isa", _native.instruction_sets())
def test_every_instruction_set_agrees(hazy, isa):
    before = _native.instruction_set()
    _native.use_instruction_set(isa)
    try:
        check_equal(hazy[:121, :133], Settings())
    finally:
        _native.use_instruction_set(before)


def test_threads_do_not_change_a_bit():
    image = picture(150, 1300)
    results, before = [], torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        try:
            results.append(Dehazer("paper", "native")(image))
        finally:
            torch.set_num_threads(before)
    assert (results[0] == results[1]).all()
    assert (results[0] == results[2]).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (64, 128), (65, 127), (200, 96)])
def test_clahe_native_and_torch_equal_numpy(size):
    image = picture(*size)
    plain = clahe(image)
    assert np.abs(native.equalise(image.copy(), 0.002).astype(int) - plain.astype(int)).max() <= 1
    found = batch.clahe(tensor(image).double() / 255)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, clahe(image / 255.0), atol=1e-12)


def test_clahe_keeps_every_pixel_and_its_limit():
    from saccade.dehaze.clahe import clip_limit, mappings

    rng = np.random.default_rng(0)
    counts = np.stack([np.bincount(rng.integers(0, top, 4000), minlength=256) for top in (2, 40, 256)])
    maps = mappings(counts, 0.002)
    steps = np.diff(maps * 4000, axis=1, prepend=0)
    assert steps.max() <= clip_limit(4000, 0.002) + 1e-9
    np.testing.assert_allclose(maps[:, -1], 1)
    assert clip_limit(6912, 0.002) == 27 + round(0.002 * (6912 - 27))


def test_batch_equals_loop(hazy):
    a, b = hazy[:200, :180], hazy[40:240, 150:330]
    both = torch.cat([tensor(a), tensor(b)])
    for preset in ("fidelity", "paper"):
        whole = Dehazer(preset)(both)
        for i, one in enumerate((a, b)):
            assert (whole[i] == Dehazer(preset)(tensor(one))[0]).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 20), st.integers(0, 2**31))
def test_torch_windows_equal_numpy(height, width, radius, seed):
    x = np.random.default_rng(seed).random((2, height, width)).astype(np.float32)
    most = batch.window_max(torch.from_numpy(x), 2 * radius + 1).numpy()
    mean = batch.box_mean(torch.from_numpy(x), radius).numpy()
    for i in range(2):
        assert (most[i] == windows.window_max(x[i], 2 * radius + 1)).all()
        np.testing.assert_allclose(mean[i], windows.box_mean(x[i], radius), atol=1e-5)
    pooled = torch.nn.functional.max_pool2d(torch.from_numpy(x)[:, None], 2 * radius + 1, 1, radius)[:, 0]
    assert (most == pooled.numpy()).all()


@pytest.mark.parametrize("size", [1001, 70_001])
def test_selection_is_exact(size):
    values = torch.rand(3, size) * torch.tensor([[1e-20], [1.0], [1e20]])
    values[:, :300] = values[:, 300:600]  # ties
    ranked = values.sort(1).values
    for rank in (0, 1, 20, 500, 1000, size - 1):
        assert (batch.select(values, rank)[:, 0] == ranked[:, rank]).all()


def test_torch_is_differentiable(noise):
    """Against finite differences, with airlight and Theta fixed: they are constants of the gradient."""
    x = torch.from_numpy(noise[:9, :11]).permute(2, 0, 1)[None].requires_grad_()
    A = batch.airlight(x)

    def dehazed(x: torch.Tensor) -> torch.Tensor:
        order, weight, _, _ = batch.depth_order(x, A, 3)
        t = batch.guided_filter(x.mean(1), batch.transmission(order, weight, torch.tensor(1.4)), 2, 0.01)
        return batch.recover(x, t, A)

    assert torch.autograd.gradcheck(dehazed, (x,), eps=1e-7, atol=1e-4)
    y = torch.rand(1, 3, 40, 40, requires_grad=True)
    Dehazer("fidelity")(y).sum().backward()
    assert y.grad is not None
    assert torch.isfinite(y.grad).all()
    assert (y.grad != 0).any()


def test_the_share_below_its_bound_is_measured():
    image = picture(60, 80)
    image[:, 40:] = image[:1, 40:]  # many pixels alike: no Theta leaves just eps of them below
    for eps in (0.02, 0.1, 0.3):
        _, plain = Dehazer("fidelity", "numpy", eps=eps, window=5)(image, return_parts=True)
        _, own = Dehazer("fidelity", "native", eps=eps, window=5)(image, return_parts=True)
        assert own.below_bound == pytest.approx(plain.below_bound, abs=2e-3)


def test_numbers_of_a_batch_are_json(hazy):
    both = torch.cat([tensor(hazy[:40, :50]), tensor(hazy[50:90, :50])])
    found = json.loads(json.dumps(Dehazer("fidelity")(both, return_parts=True)[1].scalars()))
    assert [len(colour) for colour in found["airlight"]] == [3, 3]
    assert len(found["theta"]) == 2
    one = Dehazer("fidelity")(hazy, return_parts=True)[1].scalars()
    assert json.loads(json.dumps(one)) == one


def test_torch_takes_half_and_grey_and_keeps_types():
    x = torch.rand(2, 1, 40, 50)
    for kind in (torch.float32, torch.float64, torch.bfloat16):
        out = Dehazer("fidelity")(x.to(kind))
        assert out.dtype == kind
        assert out.shape == x.shape
    assert Dehazer("fidelity")((x * 255).byte()).dtype == torch.uint8


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_cpu(hazy):
    x = tensor(hazy)
    for preset in ("fidelity", "paper"):
        there = Dehazer(preset)(x.cuda()).cpu()
        assert (there.int() - Dehazer(preset)(x).int()).abs().max() <= 2


def test_memory_is_below_six_planes():
    frame = native.Frame(1080, 1920)
    assert frame.bytes <= 6 * 4 * 1080 * 1920


def test_white_and_black_and_a_clipped_sky(hazy):
    for value in (0, 255):
        flat = np.full((60, 80, 3), value, np.uint8)
        for engine in ("native", "numpy"):
            assert (Dehazer("fidelity", engine)(flat) == flat).all()
    sky = hazy.copy()
    sky[:100] = 255
    check_equal(sky, Settings())
    out, parts = Dehazer("fidelity")(sky, return_parts=True)
    np.testing.assert_allclose(parts.airlight, 1)
    assert (out[:40] == 255).all()


def test_method_functions_work_one_by_one(hazy):
    image = hazy / 255.0
    A = method.airlight(image)
    scene = method.depth_order(image, A)
    theta = method.solve_theta(scene, method.cube_bound(image, A))
    t = method.guided_filter(method.grey(image), method.transmission(scene, theta.value))
    J = np.clip(method.recover(image, np.clip(t, 0.05, 1), A), 0, 1)
    assert np.abs(Dehazer("fidelity", "numpy")(image) - J).max() < 1e-12
