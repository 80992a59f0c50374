"""Between boxes and what the heads answer. Boxes here are shares of the search region: middle in x and y, width, height."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST = 1e-4  # distance of scores and sizes from 0 and 1
OVERLAP = 0.7


def decoded(output: Tensor, hann: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes ``[N, 4]``, their scores ``[N]`` and the maps of scores ``[N, s, s]`` of an answer ``[N, 5 or 2, s, s]``.

    Centre head: the place (i, j) of the best score, ``cx = (j + offset x) / s``, ``cy = (i + offset y) / s``, sizes as they are
    there (Ye et al. 2022, OSTrack). hann: for the choice of the place, scores are weighed by this power of a Hann window over
    the map (OSTrack: 1); what is returned is not weighed, and a corner head, which chooses no place, does without. Corner head:
    the mean place of each corner under the softmax of its map (Yan et al. 2021, STARK); the score is the larger share of one
    place, the lesser of both corners. Raises ValueError for another answer.
    """
    if output.dim() != 4 or output.shape[1] not in (2, 5) or output.shape[2] != output.shape[3]:
        raise ValueError(
            f"expected [N, 5, s, s] of a centre head or [N, 2, s, s] of a corner head, got {list(output.shape)}"
        )
    if output.shape[1] == 2:
        corners, shares = _corners(output)
        box = torch.cat([(corners[:, 0] + corners[:, 1]) / 2, corners[:, 1] - corners[:, 0]], -1)
        return box, shares.flatten(2).amax(-1).amin(-1), shares.mean(1)
    score = bounded(output[:, 0])
    flat = score.flatten(1)
    best = (score * hann_window(score.shape[-1]).to(score) ** hann if hann else score).flatten(1).argmax(-1)
    return boxes_at(output, best), flat.gather(1, best[:, None])[:, 0], score


def hann_window(s: int) -> Tensor:
    """Weights ``[s, s]`` of places whose middles are at i / s: 1 at a half."""
    line = torch.hann_window(s + 2)[1:-1]
    return line[:, None] * line


def boxes_at(output: Tensor, place: Tensor) -> Tensor:
    """Boxes ``[N, 4]`` that a centre head gives at places ``[N]``, row by row; gradients reach these places alone."""
    s = output.shape[-1]
    chosen = output[:, 1:].flatten(2).gather(2, place.view(-1, 1, 1).expand(-1, 4, 1))[..., 0]
    size, offset = bounded(chosen[:, :2]), chosen[:, 2:]
    middle = (torch.stack([place % s, place // s], -1) + offset) / s
    return torch.cat([middle, size], -1)


def _corners(output: Tensor) -> tuple[Tensor, Tensor]:
    """Places ``[N, corner, 2]`` as shares, and the softmax ``[N, corner, s, s]``."""
    s = output.shape[-1]
    shares = output.flatten(2).softmax(-1).unflatten(-1, (s, s))
    at = torch.arange(s, device=output.device, dtype=output.dtype) / s
    return torch.stack([(shares.sum(-2) * at).sum(-1), (shares.sum(-1) * at).sum(-1)], -1), shares


def bounded(logits: Tensor) -> Tensor:
    """The sigmoid, kept ``LEAST`` away from 0 and 1."""
    return logits.sigmoid().clamp(LEAST, 1 - LEAST)


def places(boxes: Tensor, s: int) -> Tensor:
    """The place ``[N]``, row by row, that answers for each box ``[N, 4]``: where its middle is, rounded."""
    x, y = (boxes[:, :2] * s).round().long().clamp(0, s - 1).unbind(-1)
    return y * s + x


def heat(boxes: Tensor, s: int) -> Tensor:
    """Maps ``[N, s, s]``: 1 at the place of each box, falling off as a Gaussian within a radius that its size decides.

    sigma is a third of radius + 1/2. The radius is that of Law and Deng (2018), CornerNet, with an overlap of 0.7, in the form
    of their program, whose quadratic formulas divide by 2 instead of 2 a.
    """
    place = places(boxes, s)
    w, h = (boxes[:, i].clamp(min=0) * s for i in (2, 3))
    both, area, o = w + h, w * h, OVERLAP
    radius = torch.minimum(
        torch.minimum(
            (both + (both**2 - 4 * area * (1 - o) / (1 + o)).clamp(min=0).sqrt()) / 2,
            (2 * both + (4 * both**2 - 16 * (1 - o) * area).clamp(min=0).sqrt()) / 2,
        ),
        (-2 * o * both + (4 * o**2 * both**2 + 16 * o * (1 - o) * area).clamp(min=0).sqrt()) / 2,
    )
    radius = radius.floor().clamp(min=0).view(-1, 1, 1)
    sigma = (2 * radius + 1) / 6
    at = torch.arange(s, device=boxes.device, dtype=boxes.dtype)
    dy, dx = at.view(1, -1, 1) - (place // s).view(-1, 1, 1), at.view(1, 1, -1) - (place % s).view(-1, 1, 1)
    value = torch.exp(-(dx**2 + dy**2) / (2 * sigma**2))
    return torch.where((dx.abs() <= radius) & (dy.abs() <= radius), value, 0.0)


def encoded(boxes: Tensor, s: int) -> Tensor:
    """The answer ``[N, 5, s, s]`` of a centre head that means these boxes: what ``decoded`` inverts, up to ``LEAST``."""
    place = places(boxes, s)
    maps = boxes.new_zeros(len(boxes), 5, s * s)
    maps[:, 0] = heat(boxes, s).flatten(1).clamp(LEAST, 1 - LEAST).logit()
    row = torch.arange(len(boxes))
    maps[row, 1:3, place] = boxes[:, 2:].clamp(LEAST, 1 - LEAST).logit()
    maps[row, 3:, place] = boxes[:, :2] * s - torch.stack([place % s, place // s], -1)
    return maps.unflatten(-1, (s, s))


def focal(score: Tensor, target: Tensor) -> Tensor:
    """Loss of scores ``[N, s, s]`` against maps that are 1 at the place of a box: a sum over the number of such places.

    Source: Law and Deng (2018), CornerNet, with alpha 2 and beta 4.
    """
    there = target == 1
    hit = (score.log() * (1 - score) ** 2)[there].sum()
    miss = ((1 - score).log() * score**2 * (1 - target) ** 4)[~there].sum()
    return -(hit + miss) / there.sum().clamp(min=1)


def ends(boxes: Tensor) -> Tensor:
    """Boxes (middle, size) as left, top, right, bottom."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], -1)
