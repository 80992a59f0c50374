"""Scoring a model on a set of images."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saccade.data import ImageSet, batches
from saccade.models import SpikingModel
from saccade.train.losses import Loss, read_out


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found: ``confusion[true, predicted]`` counts, mean ``loss``, and how often watched neurons fire.

    ``rates``: mean firing probability per step of every neuron with a role (gates, shortcuts) by module path.
    """

    loss: float
    confusion: Tensor
    rates: dict[str, float]

    @property
    def total(self) -> int:
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        return int(self.confusion.diagonal().sum())

    @property
    def accuracy(self) -> float:
        return self.correct / max(self.total, 1)


@contextlib.contextmanager
def counting_roles(model: nn.Module) -> Iterator[dict[str, list[int]]]:
    """Count ``[spikes, opportunities]`` of every neuron with a role while the block runs, by module path."""
    counts: dict[str, list[int]] = {}
    handles = []
    for path, module in model.named_modules():
        if getattr(module, "role", ""):
            counts[path] = [0, 0]

            def count(_: nn.Module, __: object, y: Tensor, tally: list[int] = counts[path]) -> None:
                tally[0] += int(torch.count_nonzero(y))
                tally[1] += y.numel()

            handles.append(module.register_forward_hook(count))
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def evaluate(
    model: SpikingModel,
    data: ImageSet,
    *,
    loss: Loss,
    batch_size: int = 250,
    workers: int = 0,
    forward: Callable[..., Tensor] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Score ``model`` on all of ``data``, in file order, in eval mode; its mode is put back afterwards.

    ``forward`` replaces the call of the model (a Fabric wrapper, say). ``progress`` is told the samples done.
    """
    device = next(model.parameters()).device
    classes = model.num_classes
    confusion = torch.zeros(classes, classes, dtype=torch.int64)
    total = 0.0
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), counting_roles(model) as counts:
            for x, y in batches(data, batch_size, seed=None, workers=workers):
                logits = (forward or model)(x.to(device), steps=True).float()
                total += float(loss(logits, y.to(device))) * len(y)
                predicted = read_out(logits, model.readout).argmax(-1).cpu()
                confusion += torch.bincount(y * classes + predicted, minlength=classes**2).view(classes, classes)
                if progress:
                    progress(len(y))
    finally:
        model.train(was_training)
    rates = {path: fired / max(chances, 1) for path, (fired, chances) in counts.items()}
    return Evaluation(total / max(len(data), 1), confusion, rates)
