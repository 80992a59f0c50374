"""What attacks raise: losses of logits ``[N, K]`` and labels ``[N]``, a number for each sample."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Of the read-out; computed in float64, where logits of thousands still give a gradient."""
    return F.cross_entropy(logits.double(), y, reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """``max_{j != y} z_j - z_y``: above zero where the sample is misclassified. Carlini and Wagner (2017)."""
    own = logits.gather(1, y[:, None])[:, 0]
    return logits.scatter(1, y[:, None], -torch.inf).amax(1) - own


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio, ``-(z_y - max_{j != y} z_j) / (z_1 - z_3)``: no scale of the logits changes it.

    Croce and Hein (2020), eq. 6. Raises ValueError for fewer than 3 classes.
    """
    if logits.shape[1] < 3:
        raise ValueError(f"the DLR loss needs 3 classes, the model has {logits.shape[1]}")
    top = logits.topk(3, 1).values
    return margin(logits, y) / (top[:, 0] - top[:, 2]).clamp(min=1e-12)


class TargetedDLR:
    """``-(z_y - z_t) / (z_1 - (z_3 + z_4) / 2)`` towards a target t. Croce and Hein (2020), eq. 7; needs 4 classes."""

    def __init__(self, target: Tensor) -> None:
        self.target = target

    def __call__(self, logits: Tensor, y: Tensor) -> Tensor:
        if logits.shape[1] < 4:
            raise ValueError(f"the targeted DLR loss needs 4 classes, the model has {logits.shape[1]}")
        top = logits.topk(4, 1).values
        wide = (top[:, 0] - (top[:, 2] + top[:, 3]) / 2).clamp(min=1e-12)
        return (logits.gather(1, self.target[:, None]) - logits.gather(1, y[:, None]))[:, 0] / wide

    def subset(self, keep: Tensor) -> TargetedDLR:
        return TargetedDLR(self.target[keep])


class TowardsClass:
    """``z_t - z_y``, towards a target t."""

    def __init__(self, target: Tensor) -> None:
        self.target = target

    def __call__(self, logits: Tensor, y: Tensor) -> Tensor:
        return (logits.gather(1, self.target[:, None]) - logits.gather(1, y[:, None]))[:, 0]

    def subset(self, keep: Tensor) -> TowardsClass:
        return TowardsClass(self.target[keep])
