"""Where attentions of spikes look: how far, how evenly, and what of the input reaches a place of a map."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saccade.graph import observe
from saccade.layers.attention import Attention


@dataclass(frozen=True)
class AttentionMap:
    """What each place of a map gets from each other place, in one attention of a network.

    weights: ``[N, Q, H, W]``, shares of 1 for every sample and query (all zero where a query gets nothing).
    queries: int64 ``[Q]``, the places in raster order that were asked.
    """

    weights: Tensor
    queries: Tensor

    def distances(self) -> Tensor:
        """Of every place from every query, ``[Q, H, W]``, counted in rows and columns (Manhattan)."""
        height, width = self.weights.shape[-2:]
        return manhattan(self.queries, height, width)

    def mass_within(self, r: int) -> float:
        """The share that comes from places at most ``r`` away, a mean over samples and queries that get anything."""
        near = (self.weights * (self.distances() <= r)).sum((-2, -1))
        return float(near[self._heard()].mean())

    def entropy(self) -> float:
        """``H / ln(places)`` of the shares, a mean as above: 1 for an even distribution, 0 for a single place."""
        shares = self.weights.flatten(2)
        nats = -torch.special.xlogy(shares, shares).sum(-1)
        return float(nats[self._heard()].mean()) / math.log(shares.shape[-1])

    def heard(self) -> float:
        """The share of samples and queries that get anything."""
        return float(self._heard().double().mean())

    def _heard(self) -> Tensor:
        return self.weights.flatten(2).sum(-1) > 0


@dataclass(frozen=True)
class AttentionStats:
    """Locality of one attention. mass: within ``r``, and what it would be if all places had the same share; entropy: over that
    of an even distribution; heard: share of queries that get anything (of the others there is no statistic; NaN if there
    are none); places: of the map.
    """

    attention: str
    r: int
    mass: float
    even_mass: float
    entropy: float
    heard: float
    places: int

    def to_json(self) -> dict[str, Any]:
        return {key: None if value != value else value for key, value in asdict(self).items()}  # JSON has no NaN


def manhattan(queries: Tensor, height: int, width: int) -> Tensor:
    """``[Q, H, W]``: rows plus columns between places and queries in raster order."""
    rows, columns = torch.arange(height), torch.arange(width)
    above = (rows - (queries // width)[:, None]).abs()
    beside = (columns - (queries % width)[:, None]).abs()
    return above[:, :, None] + beside[:, None, :]


def attention_maps(model: nn.Module, x: Tensor, most: int = 64) -> dict[str, AttentionMap]:
    """The maps of all attentions of a model in eval mode on ``x``, as the model takes it; by path.

    The weight of place m for place n is ``sum over steps and channels of |d y_n / d v_m|``, y what the attention hands to its
    neuron and v its last part (values; in QKFormer's masks keys). Where y is a product of scores and values that are scores,
    summed over heads; local branches and scans count in the same unit. ``most``: of how many queries, evenly spaced.

    Raises ValueError for a model without an attention of spikes that has parts, or a ``most`` below 1.
    """
    found = {path: m for path, m in model.named_modules() if isinstance(m, Attention) and m.parts}
    if not found:
        raise ValueError(f"{type(model).__name__} has no attention of spikes to look at")
    if most < 1:
        raise ValueError(f"most must be at least one query, got {most}")
    seen: dict[str, Tensor] = {}
    training = model.training
    model.eval()
    try:
        parts = [f"{path}.{part}" for path, module in found.items() for part in module.parts]
        with (
            torch.no_grad(),
            observe(model, parts, lambda path, module, args, y: seen.update({path: y.detach().clone()})),
        ):
            model(x)
        return {
            path: _influence(module.mix, [seen[f"{path}.{part}"] for part in module.parts], most)
            for path, module in found.items()
        }
    finally:
        model.train(training)


def _influence(mix: Callable[..., Tensor], parts: list[Tensor], most: int) -> AttentionMap:
    values = parts[-1].requires_grad_()
    with torch.enable_grad():
        y = mix(*parts[:-1], values).flatten(3)
        places = y.shape[-1]
        queries = torch.linspace(0, places - 1, min(most, places)).round().long()
        rows = []
        for query in queries.tolist():
            (gradient,) = torch.autograd.grad(y[..., query].sum(), values, retain_graph=True)
            rows.append(gradient.abs().sum((0, 2)).double())  # [N, H, W]
    weights = torch.stack(rows, 1).cpu()
    return AttentionMap(weights / weights.sum((-2, -1), keepdim=True).clamp(min=1e-300), queries)


def attention_stats(model: nn.Module, x: Tensor, r: int = 5, most: int = 64) -> dict[str, AttentionStats]:
    """Locality of every attention of a model; see ``attention_maps`` and ``AttentionStats``.

    The measures are those of LRF-Dyn (2026), arXiv 2603.19290, which takes r = 5 on maps of 14 x 14; on 8 x 8 an even
    distribution has 56 % within that already, so take 2. Raises ValueError as ``attention_maps``, or for r below 0.
    """
    if r < 0:
        raise ValueError(f"r must be 0 places or more, got {r}")
    stats = {}
    for path, found in attention_maps(model, x, most).items():
        even = float((found.distances() <= r).double().mean())
        name = model.get_submodule(path).config.kind()  # type: ignore[union-attr,operator]
        numbers = found.mass_within(r), even, found.entropy(), found.heard()
        stats[path] = AttentionStats(name, r, *numbers, found.weights[0, 0].numel())
    return stats


def receptive_field(model: nn.Module, x: Tensor, path: str) -> Tensor:
    """How much each pixel moves the middle place of the map that the module at ``path`` returns, ``[H, W]``, shares of 1.

    ``|d (sum of channels and steps at the middle) / d x|``, summed over samples and channels, in eval mode and through neurons
    by their surrogate gradients: the effective receptive field of Luo et al. (2016). All zeros if nothing reaches it.
    Shapes: x ``[N, C, H, W]`` or ``[T, N, C, H, W]``. Raises ValueError for a path that is none, or returns no map.
    """
    seen: list[Tensor] = []
    training = model.training
    model.eval()
    try:
        given = x.detach().clone().requires_grad_()
        with torch.enable_grad(), observe(model, [path], lambda path, module, args, y: seen.append(y)):
            model(given)
        if not seen or not isinstance(seen[0], Tensor) or seen[0].dim() != 5:
            raise ValueError(f"{path!r} returns no map [T, N, C, H, W]")
        y = seen[0]
        (gradient,) = torch.autograd.grad(y[..., y.shape[-2] // 2, y.shape[-1] // 2].sum(), given)
    finally:
        model.train(training)
    field = gradient.abs().double().flatten(0, -3).sum(0)
    return field / field.sum().clamp(min=1e-300)
