"""How much a channel matters: criteria by name, each a score for every channel of every group."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saccade.graph import outputs
from saccade.layers import norm_of, weighted
from saccade.models import SpikingModel
from saccade.neurons import recording
from saccade.transforms import ChannelGroup, channel_groups

EPSILON = 1e-6  # a singular value below it counts as zero; QP-SNN's released constant


@dataclass(frozen=True)
class Scores:
    """What ``score`` found. values, ties: by group, a number a channel; equal values are decided by the larger tie, then by the
    lower index. images: how many were looked at (0: only weights were). model: a fingerprint of the weights scored.
    """

    criterion: str
    values: dict[str, list[float]]
    ties: dict[str, list[float]]
    images: int
    seed: int
    model: str = ""

    def order(self, group: str) -> list[int]:
        """Channels of a group, the most important first."""
        value, tie = self.values[group], self.ties[group]
        return sorted(range(len(value)), key=lambda c: (-value[c], -tie[c], c))

    def to_json(self) -> dict[str, Any]:
        return {"format": "saccade-scores-1"} | vars(self)


def read_scores(path: str | Path) -> Scores:
    """Scores from a file. Raises ValueError naming it if it is missing, damaged or something else."""
    try:
        record = json.loads(Path(path).read_text())
        if record.pop("format") != "saccade-scores-1":
            raise KeyError("format")
        found = Scores(**record)
        if found.values.keys() != found.ties.keys():
            raise ValueError("values and ties are of different groups")
        for name, values in found.values.items():
            if len(values) != len(found.ties[name]) or not all(map(math.isfinite, [*values, *found.ties[name]])):
                raise ValueError(f"{name}: not as many finite ties as values")
        return found
    except OSError as error:
        raise ValueError(f"{path}: cannot read the scores ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a file of scores written by saccade ({error})") from None


class _Tally:
    """Sums over samples, by neuron path: the score and its tie-break, ``[C]`` each."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.ties: dict[str, Tensor] = {}
        self.flat: set[str] = set()

    def add(self, path: str, value: Tensor, tie: Tensor | None = None) -> None:
        value = value.double().cpu()
        self.sums[path] = self.sums.get(path, torch.zeros_like(value)) + value
        tie = torch.zeros_like(value) if tie is None else tie.double().cpu()
        self.ties[path] = self.ties.get(path, torch.zeros_like(tie)) + tie


Looker = Callable[[_Tally, str, Tensor, Tensor], None]  # (tally, path, spikes, potentials), both [T, N, C, ...]


def _svs(tally: _Tally, path: str, spikes: Tensor, potentials: Tensor) -> None:
    rank, nuclear = spike_map_rank(spikes)
    if spikes.dim() < 5 or min(spikes.shape[-2:]) == 1:
        tally.flat.add(path)
    tally.add(path, rank.sum(0), nuclear.sum(0))


def spike_map_rank(spikes: Tensor, epsilon: float = EPSILON) -> tuple[Tensor, Tensor]:
    """How many singular values of each time-averaged map exceed ``epsilon``, and their sum: ``[T, N, C, h, w] -> [N, C]``.

    T times the average is a matrix of whole numbers, so this is the rank of the map of spike counts. In float64: in float32
    the singular values of a rank-deficient map come out near 1e-6 themselves.
    Source: Wei et al. (2025), QP-SNN, eq. 12-13.
    """
    maps = spikes.double().mean(0)
    if maps.dim() == 2:
        maps = maps[..., None]
    if maps.dim() == 3:
        maps = maps[..., None]
    values = torch.linalg.svdvals(maps)
    return (values > epsilon).sum(-1), values.sum(-1)


def _sca(tally: _Tally, path: str, spikes: Tensor, potentials: Tensor) -> None:
    tally.add(path, _maps(potentials).abs().sum(-1).mean(0).sum(0))


def _rate(tally: _Tally, path: str, spikes: Tensor, potentials: Tensor) -> None:
    tally.add(path, _maps(spikes).mean((0, 3)).sum(0))


def _maps(x: Tensor) -> Tensor:
    """``[T, N, C, places]``; neurons without a map have one place."""
    return x.unsqueeze(-1) if x.dim() == 3 else x.flatten(3)


def _l1(model: nn.Module, group: ChannelGroup) -> Tensor:
    """Sum of |W| in use of the filters that make a channel. Source: Li et al. (2017), Pruning Filters."""
    layers = [weighted(model.get_submodule(path)) for path in group.producers]
    return torch.stack([layer.used_weight().detach().abs().flatten(1).sum(1) for layer in layers]).sum(0)


def _bn_gamma(model: nn.Module, group: ChannelGroup) -> Tensor:
    """|gamma| of the norms that a channel passes. Source: Liu et al. (2017), Network Slimming."""
    norms = [norm_of(model.get_submodule(path)) for path in group.norms]
    if not norms:
        raise ValueError(
            f"bn_gamma: the channels of {group.producers[0]} pass no norm; score them by another criterion"
        )
    return torch.stack([norm.weight.detach().abs() for norm in norms]).sum(0)


LOOKERS: dict[str, Looker] = {"svs": _svs, "sca": _sca, "rate": _rate}
WEIGHTS: dict[str, Callable[[nn.Module, ChannelGroup], Tensor]] = {"l1": _l1, "bn_gamma": _bn_gamma}
CRITERIA = (*LOOKERS, *WEIGHTS, "random")


def score(model: SpikingModel, data: Iterable[Tensor] = (), criterion: str = "svs", seed: int = 0) -> Scores:
    """Score every channel that can be removed.

    "svs": rank of the time-averaged spike map, mean over samples; ties by its nuclear norm (Wei et al. 2025, QP-SNN).
    "sca": mean over samples and time of the L1 norm of the potentials before reset (Li et al. 2024). "rate": firing rate.
    "l1": filters' L1 norm. "bn_gamma": |gamma|. "random": drawn from ``seed``. Scores of all layers that meet at an addition
    are summed. ``data``: batches of images ``[N, C, H, W]`` or sequences, in one pass, in eval mode; only the first three look.

    Raises ValueError for an unknown criterion, no data where it is needed, or a model without channel groups.
    Warns where SVS has maps of 1x1 to judge: there every channel that ever fires has rank 1, and the tie-break decides.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"unknown criterion {criterion!r}; known: {', '.join(CRITERIA)}")
    batches = iter(data)
    first = next(batches, None)
    groups = channel_groups(model, first)
    nothing = {name: [0.0] * group.size for name, group in groups.items()}
    if criterion == "random":
        draw = torch.Generator().manual_seed(seed)
        values = {name: torch.rand(group.size, generator=draw).tolist() for name, group in groups.items()}
        return Scores(criterion, values, nothing, 0, seed, fingerprint(model, groups))
    if criterion in WEIGHTS:
        values = {name: WEIGHTS[criterion](model, group).tolist() for name, group in groups.items()}
        return Scores(criterion, values, nothing, 0, seed, fingerprint(model, groups))
    if first is None:
        raise ValueError("this criterion looks at spikes: give it batches of images")
    tally, images = _look(model, chain([first], batches), groups, LOOKERS[criterion])
    if tally.flat:
        flat = ", ".join(sorted(tally.flat))
        warnings.warn(
            f"svs: the maps of {flat} are one pixel wide, so only their tie-break tells channels apart", stacklevel=2
        )
    values, ties = {}, {}
    for name, group in groups.items():
        if not group.neurons:
            raise ValueError(f"{name}: no neurons see its channels alone, so {criterion} cannot score them; use l1")
        values[name] = (torch.stack([tally.sums[path] for path in group.neurons]).sum(0) / images).tolist()
        ties[name] = (torch.stack([tally.ties[path] for path in group.neurons]).sum(0) / images).tolist()
    return Scores(criterion, values, ties, images, seed, fingerprint(model, groups))


def fingerprint(model: nn.Module, groups: Mapping[str, ChannelGroup]) -> str:
    """Of the weights in use of the layers that make channels: tells the scores of one network from those of another."""
    digest = hashlib.sha256()
    for group in groups.values():
        for path in group.producers:
            weight = weighted(model.get_submodule(path)).used_weight()
            digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _look(
    model: SpikingModel, data: Iterable[Tensor], groups: dict[str, ChannelGroup], look: Looker
) -> tuple[_Tally, int]:
    tally, images = _Tally(), 0
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    paths = {path for group in groups.values() for path in group.neurons}
    try:
        with torch.inference_mode():
            for x in data:
                with outputs(model, paths) as spikes, recording(model) as potentials:
                    model(x.to(device))
                for path in paths:
                    look(tally, path, spikes[path][0], potentials[path][0])
                images += x.shape[0] if x.dim() == 4 else x.shape[1]
    finally:
        model.train(was_training)
    return tally, images
