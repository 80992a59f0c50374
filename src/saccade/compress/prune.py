"""Removing channels: a plan from scores, the narrower model, and norms that fit it.

Source: Wei et al. (2025), QP-SNN, arXiv 2502.05905. The released code copies convolution weights only and aligns shortcuts by
padding; here norms, biases, statistics and the classifier come along, and a residual stage keeps one set of channels.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saccade.compress.criteria import Scores, fingerprint
from saccade.layers import batch_norms
from saccade.measure import model_size
from saccade.models import SpikingModel
from saccade.transforms import PruneChannelsConfig, channel_groups
from saccade.transforms.prune_channels import narrow


@dataclass(frozen=True)
class ChannelPlan:
    """Which channels stay, by group, ascending; groups that are not named keep all."""

    kept: dict[str, tuple[int, ...]]

    def transform(self) -> PruneChannelsConfig:
        """What removes the others: ``apply(model, plan.transform())``."""
        return PruneChannelsConfig(dict(self.kept))

    def __str__(self) -> str:
        return ", ".join(f"{name} {len(channels)}" for name, channels in self.kept.items())


def plan_by_ratio(scores: Scores, ratio: float | Mapping[str, float]) -> ChannelPlan:
    """Remove a share of every group, or of the named ones: ``floor(c * (1 - ratio))`` channels with the best scores stay.

    Raises ValueError for an unknown group, a ratio outside [0, 1), or one that leaves a group empty.
    """
    ratios = dict(ratio) if isinstance(ratio, Mapping) else dict.fromkeys(scores.values, ratio)
    for name, share in ratios.items():
        if name not in scores.values:
            raise ValueError(f"ratios: no group {name!r} was scored; there are {', '.join(scores.values)}")
        if not 0 <= share < 1:
            raise ValueError(f"ratios: {name}: a ratio must be at least 0 and below 1, got {share:g}")
        if _count(scores, name, share) == 0:
            have = len(scores.values[name])
            raise ValueError(f"ratios: {name}: a ratio of {share:g} leaves none of its {have} channels")
    return _best(scores, {name: _count(scores, name, share) for name, share in ratios.items()})


def _count(scores: Scores, group: str, ratio: float) -> int:
    return int(len(scores.values[group]) * (1 - ratio) + 1e-9)  # 100 * (1 - 0.9) is 9.999... in floating point


def _best(scores: Scores, counts: Mapping[str, int]) -> ChannelPlan:
    return ChannelPlan({name: tuple(sorted(scores.order(name)[:count])) for name, count in counts.items()})


def plan_by_budget(model: SpikingModel, scores: Scores, kilobytes: float) -> ChannelPlan:
    """Remove one share of every group, the smallest (in steps of 0.001) with which the whole model takes at most so many
    10^3 bytes, as QP-SNN counts; every group keeps at least one channel.

    Raises ValueError if no share does, or for the scores of another network.
    """
    check_scores(model, scores)
    bare, groups = copy.deepcopy(model).to("meta"), channel_groups(model)

    def plan(thousandths: int) -> ChannelPlan:
        return _best(scores, {name: max(1, _count(scores, name, thousandths / 1000)) for name in scores.values})

    def size(thousandths: int) -> float:
        trial = copy.deepcopy(bare)
        narrow(trial, groups, {name: torch.tensor(kept) for name, kept in plan(thousandths).kept.items()})
        return model_size(trial).bits / 8e3

    if size(1000) > kilobytes:
        raise ValueError(f"budget: {kilobytes:g} kB cannot be reached: one channel a group takes {size(1000):.1f} kB")
    low, high = -1, 1000  # sizes fall with the share: halve the interval
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if size(middle) <= kilobytes else (middle, high)
    return plan(high)


def check_scores(model: nn.Module, scores: Scores) -> None:
    """Raises ValueError if the scores are those of another network: by its channels, or by its weights."""
    groups = channel_groups(model)
    have = {name: group.size for name, group in groups.items()}
    scored = {name: len(values) for name, values in scores.values.items()}
    if have != scored:
        differing = next(name for name in {**have, **scored} if have.get(name) != scored.get(name))
        raise ValueError(
            f"the scores are of another network: {differing} has {have.get(differing, 'no')} channels here and "
            f"{scored.get(differing, 'no')} there"
        )
    if scores.model not in ("", fingerprint(model, groups)):
        raise ValueError(
            "the scores are of another network: its channels are as many, but its weights differ; score this one"
        )


@torch.no_grad()
def recalibrate_(model: SpikingModel, data: Iterable[Tensor]) -> int:
    """Estimate the running statistics of all norms again, as the mean over ``data``; returns the number of images.

    What pruning removed no longer adds to the sums, so the old statistics are wrong for the layers after it.
    Raises ValueError for no data, with the statistics as they were.
    """
    norms = [norm for norm in batch_norms(model).values() if norm.track_running_stats]
    was_training = model.training
    momenta = [norm.momentum for norm in norms]
    device = next(model.parameters()).device
    images = 0
    model.eval()
    try:
        for x in data:
            if not images:
                for norm in norms:
                    norm.reset_running_stats()
                    norm.momentum = None  # cumulative mean
                    norm.train()
            model(x.to(device))
            images += x.shape[0] if x.dim() == 4 else x.shape[1]
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.train(was_training)
    if not images:
        raise ValueError("re-estimating the norms needs images")
    return images
