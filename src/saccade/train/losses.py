"""Losses on the logits of every step, ``[T, N, K]``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor], Tensor]
# extra(images, autocast) watches the forward pass inside it and gives what to add to the loss, from the logits [T, N, K]
Autocast = Callable[[], AbstractContextManager[None]]
ExtraLoss = Callable[[Tensor, Autocast], AbstractContextManager[Callable[[Tensor], Tensor]]]


def soft_targets(target: Tensor, classes: int, smoothing: float = 0.0) -> Tensor:
    """Class indices ``[N]`` or probabilities ``[N, K]`` to probabilities, smoothed towards uniform."""
    soft = F.one_hot(target, classes).float() if target.dim() == 1 else target
    return soft * (1 - smoothing) + smoothing / classes if smoothing else soft


def read_out(logits: Tensor, readout: str) -> Tensor:
    """``[T, N, K] -> [N, K]``: the mean over time or the last step."""
    return logits.mean(0) if readout == "mean" else logits[-1]


def cross_entropy(logits: Tensor, target: Tensor, readout: str = "mean") -> Tensor:
    """Cross-entropy of the read-out with class probabilities ``[N, K]``."""
    return F.cross_entropy(read_out(logits, readout), target)


def mse_on_rate(logits: Tensor, target: Tensor, readout: str = "mean") -> Tensor:
    """Mean squared error between the read-out and ``[N, K]`` targets. Source: Shan et al. (2023), released scripts."""
    return F.mse_loss(read_out(logits, readout), target)


def tet(logits: Tensor, target: Tensor, weight: float = 0.0, level: float = 1.0) -> Tensor:
    """``(1 - weight) * mean_t CE(o_t, y) + weight * MSE(o, level)``. Source: Deng et al. (2022), TET, eq. 10-11.

    With weight 0 it is at least the cross-entropy of the mean over time (Jensen).
    """
    steps, samples = logits.shape[:2]
    each = F.cross_entropy(logits.flatten(0, 1), target.repeat(steps, 1).view(steps * samples, -1))
    if weight == 0:
        return each
    return (1 - weight) * each + weight * (logits - level).square().mean()


LOSSES = ("ce", "mse", "tet")


def loss_function(
    name: str,
    classes: int,
    smoothing: float = 0.0,
    readout: str = "mean",
    tet_lambda: float = 0.0,
    tet_target: float = 1.0,
) -> Loss:
    """``loss(logits [T, N, K], target [N] or [N, K]) -> scalar``. Raises ValueError for an unknown name."""
    if name not in LOSSES:
        raise ValueError(f"unknown loss {name!r}; known: {', '.join(LOSSES)}")

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        if logits.dim() != 3:
            raise ValueError(f"losses take logits [T, N, K], got {list(logits.shape)}")
        logits = logits.float()
        soft = soft_targets(target, classes, smoothing).to(logits)
        if name == "tet":
            return tet(logits, soft, tet_lambda, tet_target)
        return cross_entropy(logits, soft, readout) if name == "ce" else mse_on_rate(logits, soft, readout)

    return loss


def accuracy_count(logits: Tensor, target: Tensor, readout: str = "mean") -> Tensor:
    """Number of samples whose read-out peaks at the target (the larger part of a mixed one)."""
    truth = target if target.dim() == 1 else target.argmax(-1)
    return (read_out(logits, readout).argmax(-1) == truth).sum().to(torch.int64)
