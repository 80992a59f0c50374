"""The method's exact properties and its golden numbers (hand-derived, or printed by the authors' own code)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.dehaze import Dehazer, method, metrics, windows
from saccade.dehaze.synthesis import stereo_scene, synth_haze


def solved(image: np.ndarray, eps: float = 0.02, window: int = 35):
    A = method.airlight(image)
    scene = method.depth_order(image, A, window)
    bound = method.cube_bound(image, A)
    theta = method.solve_theta(scene, bound, eps)
    return A, scene, bound, theta, method.transmission(scene, theta.value)


def pictures(haze_data: Path) -> list[np.ndarray]:
    """Ten real hazy photographs of many kinds, every second pixel."""
    from PIL import Image

    found = []
    for path in sorted((haze_data / "real").iterdir())[::4]:
        with Image.open(path) as file:
            found.append(np.asarray(file.convert("RGB"))[::2, ::2] / 255.0)
    return found


@pytest.mark.parametrize(
    ("preset", "A", "theta"),
    [("demo", (0.76471, 0.81961, 0.83137), 1.449138), ("paper", (0.76471, 0.80784, 0.81176), 1.414847)],
)
@pytest.mark.parametrize("engine", ["numpy", "native"])
def test_golden_scalars_of_the_authors_picture(haze_data, preset, A, theta, engine):
    from PIL import Image

    path = haze_data / "real" / "highquality13.png"
    assert hashlib.md5(path.read_bytes()).hexdigest() == "34dca40951ceab5f1366c8cca9317195"
    with Image.open(path) as file:
        image = np.array(file.convert("RGB"))
    _, parts = Dehazer(preset, engine)(image, return_parts=True)
    np.testing.assert_allclose(parts.airlight, A, atol=5e-6)
    assert parts.theta == pytest.approx(theta, abs=6e-7)
    assert not parts.clamped
    if preset == "demo":
        assert parts.nearest == pytest.approx(1.241051, abs=6e-7)
        assert parts.farthest == pytest.approx(0.056829, abs=6e-7)


def test_golden_gain_on_the_bundled_stereo_scene():
    clear, depth = stereo_scene()
    measured = {0.2: (17.05, 24.98), 0.4: (12.39, 23.01), 0.6: (10.12, 19.45), 0.9: (8.31, 15.74)}
    dehazer = Dehazer("fidelity")
    for beta, (before, after) in measured.items():
        hazy = synth_haze(clear, depth, beta, (0.85, 0.88, 0.90))
        assert metrics.psnr(hazy, clear) == pytest.approx(before, abs=0.015)
        assert metrics.psnr(dehazer(hazy), clear) == pytest.approx(after, abs=0.05)
    hazy = synth_haze(clear, depth, 0.4, (0.85, 0.88, 0.90))
    assert metrics.psnr(dehazer(hazy), clear) - metrics.psnr(hazy, clear) >= 8


def test_order_is_kept_exactly_before_filtering(haze_data, noise):
    for image in [noise, *pictures(haze_data)]:
        _, scene, _, theta, t0 = solved(image)
        order = scene.order.ravel()
        mapped = (scene.order / t0).ravel()  # theta_c
        ranked = np.argsort(order)
        assert (np.diff(mapped[ranked]) >= -1e-12).all()
        low = method.least_transmission(scene.farthest, scene.nearest, theta.value)
        assert low - 1e-12 <= t0.min() <= low + 2e-3
        assert t0.max() == 1
        assert t0.flat[np.argmax(scene.order)] == pytest.approx(scene.nearest / theta.value, rel=1e-12)


def test_share_beyond_the_bound_is_eps_unless_clamped(haze_data):
    checked = 0
    for image in pictures(haze_data):
        _, scene, bound, theta, t0 = solved(image)
        share = (t0 < bound - 1e-12).mean()
        if theta.clamped:
            assert theta.value == scene.nearest
            continue
        checked += 1
        assert share <= 0.02 + 1 / bound.size
        assert share >= 0.02 - 0.005  # pixels at the percentile itself count as kept
    assert checked >= 3


def test_theta_rises_with_eps(noise, hazy):
    for image in (noise, hazy / 255.0):
        values = [solved(image, eps)[3].value for eps in (0.005, 0.01, 0.02, 0.03, 0.05, 0.2)]
        assert values == sorted(values)
        assert values[0] < values[-1]


@pytest.mark.parametrize("axis", [0, 1])
def test_mirrored_pictures_give_mirrored_results(noise, axis):
    plain = Dehazer("fidelity", "numpy")(noise)
    mirrored = np.flip(Dehazer("fidelity", "numpy")(np.flip(noise, axis).copy()), axis)
    np.testing.assert_allclose(mirrored, plain, atol=5e-13)


def test_channels_may_change_places(noise):
    t0 = solved(noise)[4]
    np.testing.assert_allclose(solved(noise[..., [2, 0, 1]])[4], t0, atol=1e-15)


def test_grey_stays_grey_and_flat_stays_as_it_is(noise):
    grey = np.repeat(noise[..., :1], 3, axis=2)
    result = Dehazer("fidelity", "numpy")(grey)
    assert (result[..., 0] == result[..., 1]).all()
    assert (result[..., 0] == result[..., 2]).all()
    flat = np.full((40, 50, 3), 0.3)
    assert (Dehazer("fidelity", "numpy")(flat) == flat).all()


def test_nothing_changes_where_t_is_one(noise):
    A = method.airlight(noise)
    np.testing.assert_allclose(method.recover(noise, np.ones(noise.shape[:2]), A), noise, atol=1e-15)


def test_haze_goes_away_with_the_true_transmission(noise):
    depth = np.linspace(0, 2, noise.shape[0])[:, None] * np.ones(noise.shape[1])
    A = np.array([0.8, 0.85, 0.9])
    hazy = synth_haze(noise, depth, 1.2, A)
    np.testing.assert_allclose(method.recover(hazy, np.exp(-1.2 * depth), A), noise, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 30), st.integers(0, 2**31))
def test_windows_equal_plain_loops(height, width, radius, seed):
    x = np.random.default_rng(seed).random((height, width))
    most, mean = np.empty_like(x), np.empty_like(x)
    for i in range(height):
        for j in range(width):
            part = x[max(0, i - radius) : i + radius + 1, max(0, j - radius) : j + radius + 1]
            most[i, j], mean[i, j] = part.max(), part.mean()
    assert (windows.window_max(x, 2 * radius + 1) == most).all()
    assert (windows.window_min(-x, 2 * radius + 1) == -most).all()
    np.testing.assert_allclose(windows.box_mean(x, radius), mean, atol=1e-12)


def test_hazens_percentile():
    values = np.array([3.0, 1.0, 2.0, 4.0, 10.0])
    for share in (0.0, 0.1, 0.2, 0.5, 0.77, 1.0):
        assert method._percentile(values, share) == pytest.approx(np.percentile(values, 100 * share, method="hazen"))


def test_guided_filter_against_opencv(hazy):
    cv2 = pytest.importorskip("cv2")
    guide = method.grey(hazy / 255.0)
    source = np.random.default_rng(0).random(guide.shape)
    ours = method.guided_filter(guide, source, 9, 0.01)
    theirs = cv2.ximgproc.guidedFilter(guide.astype(np.float32), source.astype(np.float32), 9, 0.01)
    np.testing.assert_allclose(ours[20:-20, 20:-20], theirs[20:-20, 20:-20], atol=1e-4)  # OpenCV mirrors at the border
    flat = method.guided_filter(guide, np.full(guide.shape, 0.4), 9, 0.01)
    np.testing.assert_allclose(flat, 0.4, atol=1e-12)
    coarse = method.guided_filter(guide, source, 8, 0.01, subsample=2)
    assert np.abs(coarse - ours).mean() < 0.05


def test_order_survives_and_fade_falls_on_real_pictures(haze_data):
    from saccade.dehaze.fade import fade

    kept, falls = [], 0
    some = pictures(haze_data)[:5]
    for image in some:
        out, parts = Dehazer("fidelity", "numpy")(image, return_parts=True)
        kept.append(metrics.order_spearman(image, out, parts.airlight))
        falls += fade(out) < fade(image)
    assert np.mean(kept) >= 0.95
    assert falls == len(some)
