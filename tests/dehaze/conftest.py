"""Pictures for the tests of dehazing."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("cv2")
pytest.importorskip("skimage")


@cache
def _hazy(beta: float) -> NDArray[np.uint8]:
    from saccade.dehaze.synthesis import stereo_scene, synth_haze

    clear, depth = stereo_scene()
    return np.floor(synth_haze(clear, depth, beta, (0.85, 0.88, 0.90)) * 255 + 0.5).astype(np.uint8)


@pytest.fixture
def hazy() -> NDArray[np.uint8]:
    """A real picture through synthetic haze, uint8 ``[250, 370, 3]``."""
    return np.ascontiguousarray(_hazy(0.6)[::2, ::2][:250, :370])


@pytest.fixture
def noise() -> NDArray[np.float64]:
    """Floats in [0, 1] ``[60, 83, 3]``, smooth enough to have an order."""
    rng = np.random.default_rng(3)
    coarse = rng.random((8, 11, 3))
    return np.clip(np.kron(coarse, np.ones((8, 8, 1)))[:60, :83] * 0.8 + 0.1 * rng.random((60, 83, 3)), 0, 1)
