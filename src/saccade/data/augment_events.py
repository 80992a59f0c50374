"""Augmentation of event frames: EventDrop, and the geometric set of neuromorphic data augmentation.

Transformations take sequences float [n, T, C, H, W], treat all frames of a sample alike, and draw from torch's global
generator of the CPU. Counts stay whole numbers: a pixel's value comes from one pixel.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

SequenceTransform = Callable[[Tensor], Tensor]

MOST_ROLL, CUTOUT, MOST_DEGREES = 5, 16, 30.0  # of the geometric set: pixels, pixels of 48, degrees
AREAS = (0.05, 0.1, 0.15, 0.2, 0.25)  # EventDrop: side of the box, as a share of each side of the sensor
RATIOS = tuple(i / 10 for i in range(1, 10))  # EventDrop: share of the time, of the events


def event_drop(x: Tensor) -> Tensor:
    """One of four a sample, at even odds: nothing, a time, an area, or single events are dropped (Gu et al. 2021, EventDrop).

    Values are counts of events. A time is a run of frames of a share 0.1 to 0.9 of all (at least one). An area is a box with
    0.05 to 0.25 of each side. Single events are dropped with a probability of 0.1 to 0.9, each by itself.
    """
    count, steps, _, height, width = x.shape
    kind = torch.randint(0, 4, (count,))
    draw = torch.rand(count, 3)
    ratio = torch.tensor(RATIOS)[torch.randint(0, len(RATIOS), (count,))]
    area = torch.tensor(AREAS)[torch.randint(0, len(AREAS), (count,))]
    keep = torch.ones(count, steps, height, width, dtype=torch.bool)
    lasting = (ratio * steps).round().clamp(min=1)
    keep &= ~(_run(steps, lasting, draw[:, 0])[:, :, None, None] & (kind == 1)[:, None, None, None])
    rows = _run(height, (area * height).round().clamp(min=1), draw[:, 1])
    columns = _run(width, (area * width).round().clamp(min=1), draw[:, 2])
    box = rows[:, None, :, None] & columns[:, None, None, :]
    keep &= ~(box & (kind == 2)[:, None, None, None])
    result = x * keep[:, :, None].to(x.device)
    thinned = (kind == 3).nonzero().flatten()
    if len(thinned):
        part = result[thinned.to(x.device)].cpu()
        some = part.nonzero(as_tuple=True)
        part[some] = torch.binomial(part[some], 1 - ratio[thinned][some[0]])
        result[thinned.to(x.device)] = part.to(x.device)
    return result


def _run(length: int, lasting: Tensor, draw: Tensor) -> Tensor:
    """Bool [n, length], true for ``lasting`` entries from a place that ``draw`` in [0, 1) says."""
    first = (draw * (length - lasting + 1)).floor()
    at = torch.arange(length)
    return (at >= first[:, None]) & (at < (first + lasting)[:, None])


def neuromorphic(x: Tensor) -> Tensor:
    """A flip at even odds, then one of roll, rotation, cutout and shear a sample (Li et al. 2022, NDA).

    A roll moves by up to 5 pixels an axis and wraps around. A rotation is up to 30 degrees, a shear along x up to as much; both
    take the nearest pixel, and zero from outside. A cutout is a square of a third of the sides. The sizes are those of the
    paper's CIFAR10-DVS of 48 x 48 pixels as later work uses them.
    """
    count, steps, channels, height, width = x.shape
    flip = (torch.rand(count) < 0.5).to(x.device)
    x = torch.where(flip.view(-1, 1, 1, 1, 1), x.flip(-1), x)
    kind = torch.randint(0, 4, (count,))
    move = torch.randint(-MOST_ROLL, MOST_ROLL + 1, (count, 2)) * (kind == 0)[:, None]
    angle = torch.deg2rad((torch.rand(count) * 2 - 1) * MOST_DEGREES)
    side = torch.tensor([max(1, round(length * CUTOUT / 48)) for length in (height, width)])
    place = (torch.rand(count, 2) * torch.tensor([height, width])).floor().long()
    x = rolled(x, move)
    turned = ((kind == 1) | (kind == 3)).nonzero().flatten()
    if len(turned):
        cos, sin = angle.cos(), angle.sin()
        matrices = torch.zeros(count, 2, 2)
        matrices[kind == 1] = torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2)[kind == 1]
        one, zero = torch.ones(count), torch.zeros(count)
        matrices[kind == 3] = torch.stack([one, angle.tan(), zero, one], 1).view(-1, 2, 2)[kind == 3]
        on_device = turned.to(x.device)
        x[on_device] = nearest(x[on_device].flatten(1, 2), matrices[turned]).view(-1, steps, channels, height, width)
    inside = []
    for axis, length in enumerate((height, width)):
        first = place[:, axis] - side[axis] // 2
        at = torch.arange(length)
        inside.append((at >= first[:, None]) & (at < first[:, None] + side[axis]))
    box = inside[0][:, :, None] & inside[1][:, None, :] & (kind == 2)[:, None, None]
    return x.masked_fill(box[:, None, None].to(x.device), 0)


def rolled(x: Tensor, move: Tensor) -> Tensor:
    """Sequences [n, T, C, H, W], sample i moved down and right by ``move[i]`` pixels (int64 [n, 2]), around the edges."""
    count, _, _, height, width = x.shape
    rows = (torch.arange(height) - move[:, :1]) % height
    columns = (torch.arange(width) - move[:, 1:]) % width
    pixels = (rows[:, :, None] * width + columns[:, None, :]).view(count, 1, 1, -1).to(x.device)
    return x.flatten(3).gather(3, pixels.expand(*x.shape[:3], -1)).view(x.shape)


def nearest(x: Tensor, matrices: Tensor) -> Tensor:
    """Images [n, C, H, W] whose pixel at p (x, y from the middle) is the nearest one to ``matrices[i] p``; 0 outside."""
    height, width = x.shape[-2:]
    rows, columns = torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], -1)  # x, y
    place = torch.einsum("nij,hwj->nhwi", matrices, grid)
    scaled = place / (torch.tensor([width, height]) / 2)
    return functional.grid_sample(x, scaled.to(x), mode="nearest", align_corners=False)
