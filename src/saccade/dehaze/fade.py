"""FADE: fog density of a picture without a reference (Choi, You and Bovik 2015, IEEE TIP 24(11)).

Twelve statistics of 8 x 8 blocks are compared with Gaussians fitted to 500 foggy and 500 fog-free photographs; the density is
the distance to the fog-free one over the distance to the foggy one plus 1. The two Gaussians are the authors', from their
release (Copyright (c) 2015 The University of Texas at Austin; the whole notice is in FADE-NOTICE.txt beside this file).
The code here is ours, after the paper.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saccade.dehaze.method import GREY
from saccade.dehaze.windows import Array
from saccade.optional import need

BLOCK = 8
# Contrast energy (Groen et al. 2013): noise thresholds for luma, blue-yellow and red-green, in grey levels
THRESHOLDS = tuple(255 * t for t in (9.225496406318721e-4, 8.969246659629488e-4, 2.069284034165411e-4))
SEMISATURATION, SIGMA, REACH = 0.1, 3.25, 9.75

# Means, and lower triangles of the covariances, of log(1 + feature).
CLEAR_MEAN = (
    *(0.389774224937378, 0.11955552088561, 0.0738060416516676, 3.21585250666259, 0.292762343523965, 1.86225854558008),
    *(1.1502803347563, 1.03156456057672, 1.84138722167384, 0.171471878267803, 0.443016994045952, 3.3037319330286),
)
FOGGY_MEAN = (
    *(0.0999661533376065, 0.01059909632077, 0.00829623054210693, 0.60805615552187, 0.00480860914377503),
    *(0.187966356680982, 0.131318836474065, 0.236831591971413, 0.912616181510066, 0.568023541658438),
    *(0.0418215709763005, 1.31548016737338),
)
CLEAR_COVARIANCE = """
4.13222407e-3
1.66822078e-3 3.51948710e-3
1.74884851e-3 2.05671787e-5 2.70380871e-3
3.28856304e-3 1.12048363e-3 1.19709534e-3 1.09883583e-1
-3.38939834e-4 -3.56571451e-4 1.26414036e-4 1.96122053e-2 1.41317744e-2
-2.46654408e-3 -1.35106206e-3 -8.10939394e-4 3.71979397e-2 8.16482000e-3 3.10538715e-2
-3.93616525e-3 -9.71889733e-4 -1.03795021e-3 3.17952013e-2 2.84914934e-3 3.02512678e-2 1.37325803e-1
-4.15024883e-3 -3.53756789e-4 -1.78332307e-3 2.46238134e-2 9.70095962e-4 2.48575091e-2 9.13584358e-2 1.39595794e-1
6.66897364e-4 2.10655714e-4 1.13376199e-4 7.53778682e-3 1.14574464e-4 2.29834098e-3 1.82165607e-3 1.15647060e-3 1.53657181e-3
4.81757000e-4 2.07419090e-4 -5.16431800e-5 6.29079183e-3 -2.84895706e-3 1.03028576e-3 -3.48998273e-3 1.47675289e-4 8.46535395e-4
4.23914967e-3
-1.32961571e-4 2.74738705e-5 1.10130984e-4 -1.65908044e-4 -2.26974411e-4 8.89113969e-4 1.23088689e-2 8.17855040e-3
-1.17796590e-4 -3.40355844e-3 7.35205864e-3
-2.42595074e-3 -1.93224656e-4 -7.30444325e-4 4.35758249e-2 -1.41581226e-2 2.54625115e-2 1.30196168e-1 1.26346723e-1
4.29136312e-3 2.06699409e-3 2.34249201e-2 2.48287080e-1
"""
FOGGY_COVARIANCE = """
4.25493967e-3
6.87307694e-4 1.89892692e-4
4.67958998e-4 7.34839048e-5 1.37219021e-4
1.45723846e-2 2.58890813e-3 1.66151657e-3 8.07248416e-2
1.71536147e-4 3.38790045e-5 2.06179223e-5 1.07793966e-3 1.84695984e-5
5.00750485e-3 1.04454799e-3 5.55286943e-4 4.13238995e-2 5.83793059e-4 4.41181026e-2
2.97949369e-3 5.25926716e-4 3.64962640e-4 1.54418613e-2 2.01571675e-4 1.30265399e-2 2.57542409e-2
3.62352451e-3 6.00145223e-4 4.19026479e-4 1.70438799e-2 2.13156394e-4 1.23205661e-2 1.80084603e-2 3.92119574e-2
1.50184945e-2 2.29510521e-3 1.43686450e-3 7.63714069e-2 8.89775218e-4 3.88399786e-2 1.89034770e-2 2.17489508e-2 1.16664941e-1
-1.30750809e-3 -2.55223012e-4 -1.74301738e-4 -9.19162626e-3 -1.58005977e-4 -4.55846705e-3 -1.66040013e-3 -2.61456139e-3
-8.35839320e-3 4.66774078e-3
1.95742609e-4 3.30126312e-5 2.32308158e-5 9.48157884e-4 1.07208233e-5 3.35151975e-4 6.86355002e-4 1.74426958e-3
1.35528400e-3 -6.62238247e-4 9.94075900e-4
8.43573677e-3 1.29409309e-3 1.01346206e-3 3.37809695e-2 3.36911332e-4 1.39394485e-2 3.81882718e-2 6.40158755e-2
4.78174518e-2 -8.67906645e-3 1.54898036e-2 3.42746485e-1
"""


def fade(image: NDArray) -> float:
    """Perceived fog density of RGB ``[H, W, 3]``, uint8 or floating in [0, 1]; higher is foggier, no upper end.

    Rows and columns beyond a multiple of 8 are left out. Raises ValueError for a picture below 8 x 8.
    """
    scaled = image.astype(np.float64) if image.dtype == np.uint8 else image * 255.0
    height, width = (size // BLOCK * BLOCK for size in scaled.shape[:2])
    if not height or not width:
        raise ValueError(f"FADE works on blocks of 8 x 8 pixels; the picture is {image.shape[1]} x {image.shape[0]}")
    features = _features(scaled[:height, :width])
    return _distance(features, CLEAR_MEAN, CLEAR_COVARIANCE) / (_distance(features, FOGGY_MEAN, FOGGY_COVARIANCE) + 1)


def _features(rgb: Array) -> Array:
    """log(1 + feature) ``[blocks, 12]``; NaN where a block has no value of a kind."""
    ndimage = need("scipy.ndimage", "dehaze")
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    luma = np.floor(rgb @ np.asarray(GREY) + 0.5)
    at = np.arange(-3, 4)
    line = np.exp(-(at**2) / (2 * (7 / 6) ** 2))
    line /= line.sum()

    def smooth(x: Array) -> Array:
        once = ndimage.correlate1d(x, line, 0, mode="nearest")
        return np.asarray(ndimage.correlate1d(once, line, 1, mode="nearest"))

    mean = smooth(luma)
    sigma = np.sqrt(np.abs(smooth(luma * luma) - mean * mean))
    normal = (luma - mean) / (sigma + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        variation = np.where(sigma > 0, sigma / mean, 0.0)
    pairs = _blocks(normal * np.roll(normal, 1, 0))
    opponent = (0.299 * red + 0.587 * green + 0.114 * blue, 0.5 * (red + green) - blue, red - green)
    energies = [_blocks(_energy(x, t, ndimage)).mean(1) for x, t in zip(opponent, THRESHOLDS, strict=True)]
    most, least = rgb.max(2), rgb.min(2)
    saturation = np.where(most > 0, (most - least) / np.maximum(most, 1e-12), 0.0)
    by, rg = _blocks(opponent[1]), _blocks(opponent[2])
    spread = np.hypot(rg.std(1, ddof=1), by.std(1, ddof=1))
    colourful = spread + 0.3 * np.hypot(rg.mean(1), by.mean(1))
    columns = [
        _blocks(normal).var(1, ddof=1),
        _variance(pairs, pairs >= 0),
        _variance(pairs, pairs <= 0),
        _blocks(sigma).mean(1),
        _blocks(variation).mean(1),
        *energies,
        _entropy(_blocks(luma).astype(np.int64)),
        _blocks(least / 255).mean(1),
        _blocks(saturation).mean(1),
        colourful,
    ]
    return np.log1p(np.stack(columns, axis=1))


def _distance(features: Array, mean: tuple[float, ...], triangle: str) -> float:
    """Mean over blocks of the Mahalanobis distance, the covariance averaged with the block's own variance (all entries)."""
    covariance = np.zeros((12, 12))
    covariance[np.tril_indices(12)] = [float(number) for number in triangle.split()]
    covariance += np.tril(covariance, -1).T
    with np.errstate(invalid="ignore"):
        own = np.nanvar(features, axis=1, ddof=1)
    apart = np.asarray(mean) - features
    both = (own[:, None, None] + covariance) / 2
    whole = np.isfinite(apart).all(1)
    solved = np.linalg.solve(both[whole], apart[whole][..., None])[..., 0]
    return float(np.sqrt((apart[whole] * solved).sum(1)).mean()) if whole.any() else 0.0


def _energy(x: Array, threshold: float, ndimage: object) -> Array:
    """Contrast energy: the rectified response of a Laplacian of a Gaussian, with contrast gain control."""
    at = np.arange(-REACH, REACH + 1e-9)
    gauss = np.exp(-(at**2) / (2 * SIGMA**2))
    gauss /= gauss.sum()
    line = (at**2 / SIGMA**4 - 1 / SIGMA**2) * gauss
    line -= line.mean()
    line /= (0.5 * at**2 * line).sum()
    convolve = ndimage.convolve1d  # type: ignore[attr-defined]
    response = np.hypot(convolve(x, line, 0, mode="nearest"), convolve(x, line, 1, mode="nearest"))
    most = response.max()
    if most == 0:
        return response
    controlled = response * most / (response + most * SEMISATURATION) - threshold
    return np.where(controlled > 1e-7, controlled, 0.0)


def _blocks(x: NDArray) -> NDArray:
    height, width = x.shape
    return x.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).transpose(0, 2, 1, 3).reshape(-1, BLOCK * BLOCK)


def _variance(x: Array, where: NDArray) -> Array:
    """Sample variance of the chosen values of each row: NaN of none, 0 of one."""
    count = where.sum(1)
    total = np.where(where, x, 0).sum(1)
    mean = total / np.maximum(count, 1)
    squares = np.where(where, (x - mean[:, None]) ** 2, 0).sum(1)
    return np.where(count > 0, squares / np.maximum(count - 1, 1), np.nan)


def _entropy(levels: NDArray) -> Array:
    """Bits a pixel of each row of grey levels."""
    counts = np.zeros((len(levels), 256))
    np.add.at(counts, (np.arange(len(levels))[:, None], levels), 1)
    share = counts / levels.shape[1]
    return -(share * np.log2(np.where(share > 0, share, 1))).sum(1)
