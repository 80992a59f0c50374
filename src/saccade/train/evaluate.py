"""Scoring a model on a set of images."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saccade.data import ImageSet, batches
from saccade.graph import observe
from saccade.train.tasks import Task


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation gives: the mean ``loss``, the task's ``metrics``, and how often watched neurons fire.

    ``rates``: mean firing probability per step of every neuron with a role (gates, shortcuts) by module path.
    """

    loss: float
    metrics: dict[str, Any]
    rates: dict[str, float]


@contextlib.contextmanager
def counting_roles(model: nn.Module) -> Iterator[dict[str, list[int]]]:
    """Count ``[spikes, opportunities]`` of every neuron with a role while the block runs, by module path."""
    counts: dict[str, list[int]] = {}

    def count(path: str, module: nn.Module, args: tuple[Any, ...], y: Tensor) -> None:
        counts[path][0] += int(torch.count_nonzero(y))
        counts[path][1] += y.numel()

    with observe(model, lambda path, module: bool(getattr(module, "role", "")), count) as modules:
        counts.update({path: [0, 0] for path in modules})
        yield counts


def evaluate(
    model: nn.Module,
    data: ImageSet,
    task: Task,
    *,
    batch_size: int = 250,
    workers: int = 0,
    forward: Callable[..., Tensor] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Score ``model`` on all of ``data``, in file order, in eval mode; its mode is put back afterwards.

    ``forward`` replaces the call of the model (a Fabric wrapper, say). ``progress`` is told the samples done.
    """
    device = next(model.parameters()).device
    metrics = task.metrics()
    metrics.to(device)
    total = 0.0
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), counting_roles(model) as counts:
            for x, y in batches(data, batch_size, seed=None, workers=workers):
                output, target = (forward or model)(x.to(device), steps=True), y.to(device)
                total += float(task.plain_loss(output, target)) * len(y)
                metrics.update(output, target)
                if progress:
                    progress(len(y))
    finally:
        model.train(was_training)
    rates = {path: fired / max(chances, 1) for path, (fired, chances) in counts.items()}
    return Evaluation(total / max(len(data), 1), metrics.result(), rates)
