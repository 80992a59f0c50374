"""How much the spikes of a layer can tell: the entropy of its levels.

Source: Qiu et al. (2025), QSD-Transformer, which compares the information of queries, keys and values. Its figure gives no
definition; here it is that of the histogram of levels over all steps, samples, places and channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saccade.graph import outputs
from saccade.layers.attention.base import attention_parts

_MOST = 4096  # different values


@dataclass(frozen=True)
class LevelEntropy:
    """How often a layer gave each value, by value, the lowest first."""

    counts: dict[float, int]

    @property
    def bits(self) -> float:
        """``-sum p log2 p`` of the histogram: 0 for a layer that always gives the same, 1 for a fair coin."""
        total = sum(self.counts.values())
        return -sum(n / total * math.log2(n / total) for n in self.counts.values() if n)

    @property
    def mean(self) -> float:
        total = sum(self.counts.values())
        return sum(value * n for value, n in self.counts.items()) / total


@torch.no_grad()
def level_entropy(
    model: nn.Module, batches: Iterable[Tensor], paths: Iterable[str] | None = None, *, over_time: bool = False
) -> dict[str, LevelEntropy]:
    """The entropy of what the modules at ``paths`` give, by path; None: queries, keys and values of all attentions.

    batches: inputs of the model. over_time: of the sum over the steps of each sample instead of the value of each step; for a
    neuron that spikes in single steps, and for integer neurons that were unrolled.
    Raises ValueError for a model in training mode, without batches, without attention where no paths are given, or for a module
    that gives more than 4096 different values: real numbers have no levels.
    """
    if model.training:
        raise ValueError("levels are those of a model in eval mode: call model.eval()")
    chosen = list(paths) if paths is not None else list(attention_parts(model))
    if not chosen:
        raise ValueError(f"{type(model).__name__} has no attention; name the layers whose levels are counted")
    found: dict[str, dict[float, int]] = {path: {} for path in chosen}
    seen = False
    for batch in batches:
        seen = True
        with outputs(model, chosen) as given:
            model(batch)
        for path, calls in given.items():
            for y in calls:
                values, counts = (y.sum(0) if over_time else y).unique(return_counts=True)
                for value, count in zip(values.tolist(), counts.tolist(), strict=True):
                    found[path][value] = found[path].get(value, 0) + count
                if len(found[path]) > _MOST:
                    raise ValueError(f"{path} gives more than {_MOST} different values: real numbers have no levels")
    if not seen:
        raise ValueError("there are no images to count levels on")
    return {path: LevelEntropy(dict(sorted(counts.items()))) for path, counts in found.items() if counts}
