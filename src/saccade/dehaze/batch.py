"""The torch engine: batches ``[N, 3, H, W]`` on any device, differentiable in the picture.

The same steps as saccade.dehaze.method. Airlight and Theta are order statistics and count as constants for gradients; CLAHE
reads grey levels and has none. Maxima by window doubling, box means by running sums in float64, percentiles by two
histograms of the bits of the numbers: no limit on the size of a picture.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from saccade.dehaze.clahe import BINS, TILES, Grid, mappings
from saccade.dehaze.method import GREY, GUARD, SMALLEST, coarse_radius
from saccade.dehaze.parts import Parts
from saccade.dehaze.settings import Settings
from saccade.dehaze.windows import check_window


def window_max(x: Tensor, window: int) -> Tensor:
    """Largest value of the window (odd) around every pixel of ``[..., H, W]``, cut off at the border."""
    radius = check_window(window) // 2
    for axis in (-2, -1):
        reach = min(radius, x.shape[axis] - 1)
        pad = (0, 0, reach, reach) if axis == -2 else (reach, reach)
        x = functional.pad(x, pad, value=-torch.inf)
        wide, have = 2 * reach + 1, 1
        while 2 * have <= wide:
            x = _larger(x, have, axis)
            have *= 2
        if wide > have:
            x = _larger(x, wide - have, axis)
    return x


def _larger(x: Tensor, step: int, axis: int) -> Tensor:
    size = x.shape[axis] - step
    return torch.maximum(x.narrow(axis, 0, size), x.narrow(axis, step, size))


def box_mean(x: Tensor, radius: int) -> Tensor:
    """Mean over the (2 radius + 1)^2 square around every pixel of ``[..., H, W]``, over the pixels inside the image only."""
    exact = torch.float32 if x.device.type == "mps" else torch.float64  # that device has no float64
    total = x.to(exact).reshape(-1, 1, *x.shape[-2:])
    radius = min(radius, max(x.shape[-2:]))
    for axis in (-2, -1):
        size = x.shape[axis]
        lead, reach = ((0, 0, 1, 0), (0, 0, radius, radius)) if axis == -2 else ((1, 0, 0, 0), (radius, radius, 0, 0))
        running = functional.pad(functional.pad(total.cumsum(axis), lead), reach, mode="replicate")
        at = torch.arange(size, device=x.device)
        count = ((at + radius).clamp(max=size - 1) - (at - radius).clamp(min=0) + 1).to(exact)
        total = running.narrow(axis, 2 * radius + 1, size) - running.narrow(axis, 0, size)
        total = total / (count[:, None] if axis == -2 else count)
    return total.to(x.dtype).reshape(x.shape)


def select(values: Tensor, rank: int) -> Tensor:
    """The value of each row of ``[N, P]`` (not negative) with ``rank`` smaller ones, in float32: radix selection.

    The bits of a float that is not negative rise with it, so that a histogram of their upper half finds the bin and one of
    the lower half the value. Rows shorter than such a histogram are ranked as they are.
    """
    if values.shape[1] < 1 << 16:
        return values.float().kthvalue(rank + 1, 1, keepdim=True).values
    bits = values.float().contiguous().view(torch.int32)
    upper, lower = bits >> 16, bits & 0xFFFF
    high, rest = _rank(upper, torch.ones_like(bits), torch.full((len(bits), 1), rank, device=bits.device))
    low, _ = _rank(lower, (upper == high).int(), rest)
    return ((high << 16) | low).to(torch.int32).view(torch.float32)


def _rank(keys: Tensor, weights: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """Of keys in [0, 65536): the key at ``rank`` [N, 1] counting ``weights``, and the rank among those equal to it."""
    counts = torch.zeros(len(keys), 1 << 16, dtype=torch.int64, device=keys.device)
    counts.scatter_add_(1, keys.long(), weights.long())
    running = counts.cumsum(1)
    key = (running <= rank).sum(1, keepdim=True)
    before = running.gather(1, key) - counts.gather(1, key)
    return key, rank - before


def percentile(values: Tensor, share: float) -> Tensor:
    """Hazen's percentile of each row of ``[N, P]``, values not negative: ``[N]``."""
    count = values.shape[1]
    place = min(max(share * count - 0.5, 0.0), count - 1.0)
    first = int(place)
    low, high = select(values, first), select(values, min(first + 1, count - 1))
    return (low + (high - low) * (place - first))[:, 0]


@torch.no_grad()
def airlight(x: Tensor, window: int = 15, fraction: float = 1e-3) -> Tensor:
    """Colours ``[N, 3]`` of the haze: medians of the pixels with the brightest dark channel."""
    dark = -window_max(-x.amin(1), window).flatten(1)
    count = max(1, int(fraction * dark.shape[1]))
    threshold = dark.topk(count, dim=1).values[:, -1:]
    colours = []
    for pixels, mask in zip(x.flatten(2), dark >= threshold, strict=True):
        ranked = pixels[:, mask].sort(1).values
        size = ranked.shape[1]
        colours.append((ranked[:, (size - 1) // 2] + ranked[:, size // 2]) / 2)
    return torch.stack(colours)


def depth_order(x: Tensor, A: Tensor, window: int = 35) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Order and weight ``[N, H, W]``, its smallest and largest value ``[N, 1, 1]``."""
    distance = ((x - A[..., None, None]) ** 2).sum(1).clamp(min=SMALLEST**2).sqrt()
    order = window_max(distance, window)
    farthest, nearest = order.amin((1, 2), keepdim=True), order.amax((1, 2), keepdim=True)
    spread = nearest - farthest
    weight = torch.where(spread > 0, (order - farthest) / torch.where(spread > 0, spread, 1), 0)
    return order, weight, farthest, nearest


def cube_bound(x: Tensor, A: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """The smallest transmission ``[N, H, W]`` that keeps every channel in [low, high]."""
    A = A[..., None, None]
    return torch.maximum((A - x) / (A - low).clamp(min=GUARD), (x - A) / (high - A).clamp(min=GUARD)).amax(1)


@torch.no_grad()
def solve_theta(
    order: Tensor, weight: Tensor, bound: Tensor, nearest: Tensor, eps: float = 0.02
) -> tuple[Tensor, Tensor]:
    """Theta ``[N, 1, 1]`` and whether it was raised to the largest hazy difference."""
    limit = (order / bound.clamp(min=1e-30) - order * (1 - weight)) / weight.clamp(min=1e-30)
    limit = torch.where(weight.amax((1, 2), keepdim=True) > 0, limit, nearest)  # a flat picture
    found = percentile(limit.clamp(0, 1e30).flatten(1), eps).to(order.dtype)[:, None, None]
    return torch.maximum(found, nearest), found < nearest


def transmission(order: Tensor, weight: Tensor, theta: Tensor) -> Tensor:
    """t0 ``[N, H, W]``."""
    return order / (order + weight * (theta - order))


def guided_filter(guide: Tensor, source: Tensor, radius: int = 35, eps: float = 0.002, subsample: int = 1) -> Tensor:
    """``source`` ``[N, H, W]`` smoothed along the edges of ``guide`` ``[N, H, W]``; ``subsample``: fit on means over blocks."""
    by = min(subsample, max(guide.shape[1:]))
    small_guide, small = _shrink(guide, by), _shrink(source, by)
    r = coarse_radius(radius, by)
    mean_i, mean_p = box_mean(small_guide, r), box_mean(small, r)
    covariance = box_mean(small_guide * small, r) - mean_i * mean_p
    variance = box_mean(small_guide * small_guide, r) - mean_i * mean_i
    slope = covariance / (variance + eps)
    offset = mean_p - slope * mean_i
    return _grow(box_mean(slope, r), guide, by) * guide + _grow(box_mean(offset, r), guide, by)


def _shrink(x: Tensor, by: int) -> Tensor:
    """Means over blocks, the last ones filled up by repeating the border."""
    if by == 1:
        return x
    height, width = x.shape[1:]
    x = functional.pad(x[:, None], (0, -width % by, 0, -height % by), mode="replicate")
    return functional.avg_pool2d(x, by)[:, 0]


def _grow(x: Tensor, like: Tensor, by: int) -> Tensor:
    """Back to the size of ``like``, linearly between the centres of the blocks."""
    if by == 1:
        return x
    height, width = like.shape[1:]
    wide = functional.interpolate(x[:, None], scale_factor=by, mode="bilinear", align_corners=False)
    return wide[:, 0, :height, :width]


def recover(x: Tensor, t: Tensor, A: Tensor) -> Tensor:
    """J = (I - A) / t + A, unclipped."""
    A = A[..., None, None]
    return (x - A) / t[:, None] + A


@torch.no_grad()
def clahe(x: Tensor, clip: float = 0.002) -> Tensor:
    """saccade.dehaze.clahe of ``[N, C, H, W]`` floats in [0, 1]."""
    n, c, height, width = x.shape
    levels = (x.clamp(0, 1) * 255 + 0.5).floor().long().flatten(0, 1)
    rows, columns = Grid(height, TILES), Grid(width, TILES)
    at_rows, at_columns = (torch.as_tensor(_mirror(grid), device=x.device) for grid in (rows, columns))
    padded = levels[:, at_rows][:, :, at_columns]
    tile_row = torch.arange(padded.shape[1], device=x.device) // rows.side
    tile_column = torch.arange(padded.shape[2], device=x.device) // columns.side
    keys = ((tile_row[:, None] * TILES + tile_column) * BINS + padded).flatten(1)
    counts = torch.zeros(n * c, TILES * TILES * BINS, dtype=torch.int64, device=x.device)
    counts.scatter_add_(1, keys, torch.ones_like(keys))
    found = mappings(counts.view(-1, BINS).cpu().numpy(), clip)
    maps = torch.as_tensor(found, dtype=x.dtype, device=x.device).view(n * c, -1)
    (top, bottom, down), (left, right, across) = (
        [torch.as_tensor(part, device=x.device) for part in grid.blend()] for grid in (rows, columns)
    )
    down, across = down.to(x.dtype)[:, None], across.to(x.dtype)

    def look(tile_rows: Tensor, tile_columns: Tensor) -> Tensor:
        at = (tile_rows[:, None] * TILES + tile_columns) * BINS + levels
        return maps.gather(1, at.flatten(1)).view_as(levels)

    upper = look(top, left) * (1 - across) + look(top, right) * across
    lower = look(bottom, left) * (1 - across) + look(bottom, right) * across
    return (upper * (1 - down) + lower * down).view(n, c, height, width)


def _mirror(grid: Grid) -> np.ndarray:
    return np.pad(np.arange(grid.size), grid.padding, mode="symmetric")


def dehaze_batch(image: Tensor, settings: Settings) -> tuple[Tensor, Parts]:
    """A batch ``[N, 3, H, W]`` or ``[N, 1, H, W]``, uint8 or floating in [0, 1], and what was found on the way.

    Raises ValueError for another shape or type, and for values outside [0, 1] or NaN, naming the first such image.
    """
    _check(image)
    x = image.float() / 255 if image.dtype == torch.uint8 else image
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    colour = x.expand(-1, 3, -1, -1)
    A = airlight(colour, settings.airlight_window, settings.airlight_fraction)
    order, weight, farthest, nearest = depth_order(colour, A, settings.window_for(*x.shape[2:]))
    bound = cube_bound(colour, A, settings.low, settings.high)
    theta, clamped = solve_theta(order, weight, bound, nearest, settings.eps)
    t0 = transmission(order, weight, theta)
    luma = (colour * colour.new_tensor(GREY)[:, None, None]).sum(1)
    t = guided_filter(luma, t0, settings.radius, settings.guide_eps, settings.subsample).clamp(settings.least, 1)
    J = recover(colour, t, A)
    tolerance = 4e-6
    outside = ((J.amin(1) < -tolerance) | (J.amax(1) > 1 + tolerance)).float().mean((1, 2))
    below = (t0 < bound * (1 - 1e-6)).float().mean((1, 2))
    J = J.clamp(0, 1)
    if settings.clahe == "opencv":
        raise ValueError("clahe 'opencv' works on arrays; the torch engine has 'matlab' and 'none'")
    if settings.clahe == "matlab":
        J = clahe(J, settings.clip)
    J = J[:, : image.shape[1]]
    out = (J * 255 + 0.5).floor().to(torch.uint8) if image.dtype == torch.uint8 else J.to(image.dtype)
    scalars = (farthest.flatten(), nearest.flatten(), theta.flatten(), clamped.flatten())
    return out, Parts(A, order, t, *scalars, below, outside)


def _check(image: Tensor) -> None:
    if image.dim() != 4 or image.shape[1] not in (1, 3) or image.numel() == 0:
        raise ValueError(f"a batch of pictures is [N, 3, H, W] or [N, 1, H, W], not {list(image.shape)}")
    if image.dtype == torch.uint8:
        return
    if not image.is_floating_point():
        raise ValueError(f"a batch of pictures is uint8 or floating in [0, 1], not {image.dtype}")
    flat = image.detach().flatten(1)
    fine = (flat >= 0).all(1) & (flat <= 1).all(1)  # false for NaN
    if not bool(fine.all()):
        first = int((~fine).nonzero()[0])
        raise ValueError(f"image {first} of the batch has values that are NaN or outside [0, 1]")
