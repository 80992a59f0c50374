"""Removing channels: a group of channels that hang together loses some of them everywhere at once."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from saccade.layers import norm_of, weighted, weighted_layers
from saccade.transforms.base import TRANSFORMS, Change, Transform
from saccade.transforms.channels import ChannelGroup, channel_groups
from saccade.transforms.fold_norms import refuse_folded


@dataclass(frozen=True)
class PruneChannelsConfig(Transform):
    """kept: by group (see ``channel_groups``), the channels that stay, ascending; a number n stands for the first n, as a
    file has it, whose weights are those of the kept ones. Groups that are not named keep all.

    One-way. Scales of weight forms are frozen as they are, so that the narrower model computes what the old one did with the
    other channels silenced; "thaw_scales" lets them move again for fine-tuning.
    """

    kept: dict[str, int | tuple[int, ...]]

    def apply(self, model: nn.Module) -> Change:
        """Raises ValueError, with the model untouched, for unknown groups, empty ones, indices that are not distinct and in
        order inside the group, or a model whose norms are folded.
        """
        refuse_folded(model, "pruning")
        if not self.kept:
            raise ValueError("kept: say how many channels of which groups stay")
        groups = channel_groups(model)
        kept = {name: _indices(name, channels, groups) for name, channels in self.kept.items()}
        narrow(copy.deepcopy(model).to("meta"), groups, kept)  # raises before anything is changed
        for layer in weighted_layers(model).values():
            if layer.form is not None:
                layer.form.freeze(layer.weight)
        narrow(model, groups, kept)
        counts: dict[str, int | tuple[int, ...]] = {name: len(channels) for name, channels in kept.items()}
        return Change(PruneChannelsConfig(counts), tuple(kept))


@dataclass(frozen=True)
class ThawScalesConfig(Transform):
    """Let the scales that pruning froze follow their weights again, for fine-tuning."""

    changes_structure: ClassVar[bool] = False

    def apply(self, model: nn.Module) -> Change:
        changed = []
        for path, layer in weighted_layers(model).items():
            if layer.form is not None:
                layer.form.thaw()
                changed.append(path)
        return Change(self, tuple(changed))


TRANSFORMS.register("prune", PruneChannelsConfig({}))
TRANSFORMS.register("thaw_scales", ThawScalesConfig())


def narrow(model: nn.Module, groups: Mapping[str, ChannelGroup], kept: Mapping[str, Tensor]) -> None:
    """Keep the channels ``kept`` of groups, in place: weights, norms with their statistics, neurons, and what reads them."""
    sides: dict[str, list[Tensor | None]] = {}  # of shortcuts without weights: what they keep of input and output
    for name, keep in kept.items():
        group = groups[name]
        for path in group.producers:
            weighted(model.get_submodule(path)).keep_outputs(keep)
        for path in group.norms:
            norm_of(model.get_submodule(path)).keep(keep)
        for path in group.neurons:
            neuron: Any = model.get_submodule(path)
            neuron.keep_channels(keep)
        for path in group.depthwise:
            weighted(model.get_submodule(path)).keep_outputs(keep)
        for path, block in group.consumers:
            layer = weighted(model.get_submodule(path))
            if layer is None:
                sides.setdefault(path, [None, None])[0] = keep
            else:
                layer.keep_inputs(keep, block)
        for path in group.shortcuts:
            sides.setdefault(path, [None, None])[1] = keep
        for path, axis in group.parameters:
            _keep_parameter(model, path, axis, keep)
    for path, (inside, outside) in sides.items():
        shortcut: Any = model.get_submodule(path)
        shortcut.keep_sides(inside, outside)


def _keep_parameter(model: nn.Module, path: str, axis: int, keep: Tensor) -> None:
    """Of a parameter or buffer outside layers, the channels on one of its axes."""
    owner, _, name = path.rpartition(".")
    module = model.get_submodule(owner)
    old: Tensor = getattr(module, name)
    values = old.detach().index_select(axis, keep.to(old.device))
    if isinstance(old, nn.Parameter):
        setattr(module, name, nn.Parameter(values, requires_grad=old.requires_grad))
    else:
        module._buffers[name] = values


def _indices(name: str, channels: int | tuple[int, ...], groups: Mapping[str, ChannelGroup]) -> Tensor:
    if name not in groups:
        raise ValueError(f"no group of channels {name!r}; the model has {', '.join(groups)}{_owner(name, groups)}")
    have = groups[name].size
    ordered = list(range(channels)) if isinstance(channels, int) else list(channels)
    if not ordered:
        raise ValueError(f"{name}: no channel would be left of {have}; keep at least one")
    if ordered != sorted(set(ordered)) or ordered[0] < 0 or ordered[-1] >= have:
        raise ValueError(f"{name}: channels to keep must be ascending and between 0 and {have - 1}")
    return torch.tensor(ordered)


def _owner(name: str, groups: Mapping[str, ChannelGroup]) -> str:
    """Where somebody names one tensor of a sum, say which group it shares its channels with."""
    for known, group in groups.items():
        if name in group.producers:
            partners = ", ".join(path for path in group.producers if path != name)
            return f"; {name} belongs to {known!r}, whose sum ties it to {partners}: they keep the same channels"
    return ""
