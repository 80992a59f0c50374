"""Metrics by hand-worked numbers and against other libraries."""

from __future__ import annotations

import numpy as np
import pytest

from saccade.dehaze import Dehazer, metrics
from saccade.dehaze.fade import fade
from saccade.dehaze.synthesis import stereo_scene, synth_haze


def test_reference_measures(hazy):
    from skimage.metrics import peak_signal_noise_ratio

    other = np.clip(hazy.astype(int) + 10, 0, 255).astype(np.uint8)
    assert metrics.psnr(hazy, hazy) == float("inf")
    assert metrics.psnr(hazy, other) == pytest.approx(peak_signal_noise_ratio(hazy, other), abs=1e-9)
    assert metrics.psnr(np.zeros((4, 4, 3)), np.full((4, 4, 3), 0.1)) == pytest.approx(20)
    assert metrics.ssim(hazy, hazy) == pytest.approx(1)
    assert metrics.ciede2000(hazy, hazy) == 0
    assert metrics.ssim(hazy, other) < 1 < metrics.ciede2000(hazy, other)


def test_fade_rises_with_haze():
    clear, depth = stereo_scene()
    found = [fade(synth_haze(clear, depth, beta, (0.85, 0.88, 0.9))) for beta in (0, 0.3, 0.6, 1.2)]
    assert found == sorted(found)
    assert found[-1] > 3 * found[0]
    assert fade((clear * 255).round().astype(np.uint8)) == pytest.approx(found[0], rel=0.05)
    with pytest.raises(ValueError, match="8 x 8"):
        fade(np.zeros((7, 20, 3)))
    assert np.isfinite(fade(np.full((16, 16, 3), 128, np.uint8)))


def test_contrast_measures(hazy):
    gain = metrics.e_r_sigma(hazy, Dehazer("fidelity")(hazy))
    assert gain.new_edges > 0
    assert gain.gradient_ratio > 1
    assert 0 <= gain.saturated < 0.1
    same = metrics.e_r_sigma(hazy, hazy)
    assert same == (0.0, pytest.approx(1), 0.0)
    flat = np.full((20, 20, 3), 0.5)
    assert metrics.e_r_sigma(flat, flat) == (0.0, 1.0, 0.0)


def test_order_and_flicker(hazy, noise):
    A = np.array([0.8, 0.8, 0.8])
    assert metrics.order_spearman(hazy, hazy, A) == pytest.approx(1)
    darker = noise * 0.5
    assert metrics.order_spearman(noise, darker, np.zeros(3)) == pytest.approx(1)
    assert metrics.flicker_ratio([0, 1, 0, 1, 0], [0, 2, 0, 2, 0]) == pytest.approx(2)
    assert metrics.flicker_ratio([0, 1, 2, 3], [0, 5, 10, 15]) == 1  # steady changes are no flicker
    with pytest.raises(ValueError, match="three or more"):
        metrics.flicker_ratio([1, 2], [1, 2])


def test_haze_by_hand():
    clear, depth = np.full((1, 2, 3), 0.2), np.array([[0.0, np.log(2)]])
    np.testing.assert_allclose(synth_haze(clear, depth, 1, (0.8, 1.0, 0.2))[0], [[0.2, 0.2, 0.2], [0.5, 0.6, 0.2]])
    with pytest.raises(ValueError, match="0 or more"):
        synth_haze(clear, -depth - 1, 1, 0.9)
    with pytest.raises(ValueError, match="0 or more"):
        synth_haze(clear, depth * np.nan, 1, 0.9)
    for wrong in ((clear.astype(np.uint8), depth), (clear, depth.astype(np.uint8))):
        with pytest.raises(ValueError, match="are floating, not"):
            synth_haze(*wrong, 1, 0.9)
