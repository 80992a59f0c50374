"""Which channels of a model belong together, and the narrower model that keeps some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saccade.layers import BatchNorm1d, BatchNorm2d, Conv2d, Linear
from saccade.layers.quantize import refuse_folded


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that are kept or removed together: all tensors that meet at an addition share theirs.

    producers: paths of the convolutions that make them, each with its norm's. neurons: paths of the neuron layers whose maps
    they are. consumers: paths of what reads them, with the number of inputs a channel has there (H * W after flattening).
    shortcuts: paths of what brings them other channels to add, without weights of its own.
    """

    producers: tuple[tuple[str, str], ...]
    neurons: tuple[str, ...]
    consumers: tuple[tuple[str, int], ...]
    shortcuts: tuple[str, ...] = ()


def channel_groups(model: nn.Module) -> dict[str, ChannelGroup]:
    """The groups of a model that can lose channels, by name, in order; the last layer before the head is not among them.

    Raises ValueError for a model that does not say how its channels hang together.
    """
    describe = getattr(model, "channel_groups", None)
    if describe is None:
        raise ValueError(f"{type(model).__name__} does not say which channels belong together (no channel_groups)")
    groups: dict[str, ChannelGroup] = describe()
    return groups


def width(model: nn.Module, group: ChannelGroup) -> int:
    conv: Any = model.get_submodule(group.producers[0][0])
    channels: int = conv.weight.shape[0]
    return channels


def narrow(model: nn.Module, kept: Mapping[str, Sequence[int]]) -> None:
    """Keep the named channels of the named groups, in place: weights, norms with their statistics, and what reads them.

    Raises ValueError, with the model untouched, for an unknown group, an empty one, indices that are not distinct and in
    order inside the group, or a model whose norms are folded.
    """
    refuse_folded(model, "pruning")
    groups = channel_groups(model)
    index: dict[str, Tensor] = {}
    for name, channels in kept.items():
        if name not in groups:
            raise ValueError(f"no group of channels {name!r}; the model has {', '.join(groups)}" + _hint(name, groups))
        have = width(model, groups[name])
        if not channels:
            raise ValueError(f"{name}: no channel would be left of {have}; keep at least one")
        ordered = list(channels)
        if ordered != sorted(set(ordered)) or ordered[0] < 0 or ordered[-1] >= have:
            raise ValueError(f"{name}: channels to keep must be ascending and between 0 and {have - 1}")
        index[name] = torch.tensor(ordered)
    sides: dict[str, list[Tensor | None]] = {}  # of parameter-free shortcuts: what they keep of input and output
    for name, keep in index.items():
        group = groups[name]
        for conv_path, norm_path in group.producers:
            _keep_outputs(model.get_submodule(conv_path), keep)
            _keep_norm(model.get_submodule(norm_path), keep)
        for path in group.neurons:
            keep_channels: Any = getattr(model.get_submodule(path), "keep_channels", None)
            if keep_channels is not None:
                keep_channels(keep)
        for path, block in group.consumers:
            consumer = model.get_submodule(path)
            if isinstance(consumer, Conv2d | Linear):
                _keep_inputs(consumer, keep, block)
            else:
                sides.setdefault(path, [None, None])[0] = keep
        for path in group.shortcuts:
            sides.setdefault(path, [None, None])[1] = keep
    for path, (inside, outside) in sides.items():
        shortcut: Any = model.get_submodule(path)
        shortcut.keep_sides(inside, outside)


def _hint(name: str, groups: Mapping[str, ChannelGroup]) -> str:
    """Where somebody names one tensor of a sum, say which group it shares its channels with."""
    for known, group in groups.items():
        if any(name == conv for conv, _ in group.producers):
            partners = [conv for conv, _ in group.producers if conv != name]
            shared = f", whose sum ties it to {', '.join(partners)}: they keep the same channels" if partners else ""
            return f"; {name} belongs to {known!r}{shared}"
    return ""


def _keep_outputs(conv: Any, keep: Tensor) -> None:
    keep = keep.to(conv.weight.device)
    conv.weight = _like(conv.weight, conv.weight.detach()[keep])
    if conv.bias is not None:
        conv.bias = _like(conv.bias, conv.bias.detach()[keep])
    if conv.form is not None and conv.form.frozen is not None:
        conv.form.frozen = conv.form.frozen[keep]
    if isinstance(conv, Conv2d):
        conv.out_channels = len(keep)
    else:
        conv.out_features = len(keep)


def _keep_norm(norm: Any, keep: Tensor) -> None:
    assert isinstance(norm, BatchNorm1d | BatchNorm2d)
    keep = keep.to(norm.weight.device)
    norm.weight = _like(norm.weight, norm.weight.detach()[keep])
    norm.bias = _like(norm.bias, norm.bias.detach()[keep])
    if norm.running_mean is not None and norm.running_var is not None:
        norm.running_mean, norm.running_var = norm.running_mean[keep], norm.running_var[keep]
    norm.num_features = len(keep)


def _keep_inputs(layer: Conv2d | Linear, keep: Tensor, block: int) -> None:
    columns = (keep[:, None] * block + torch.arange(block)).flatten().to(layer.weight.device)
    layer.weight = _like(layer.weight, layer.weight.detach()[:, columns])
    if isinstance(layer, Conv2d):
        layer.in_channels = len(columns)
    else:
        layer.in_features = len(columns)


def _like(old: Any, values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.clone(), requires_grad=old.requires_grad)


def freeze_scales(model: nn.Module) -> None:
    """Keep the numbers that weight forms take from their weights, so that losing input channels does not change the rest."""
    for module in model.modules():
        if isinstance(module, Conv2d | Linear) and module.form is not None:
            module.form.freeze(module.weight)


def thaw_scales(model: nn.Module) -> None:
    """Let them follow the weights again, as training wants it."""
    for module in model.modules():
        if isinstance(module, Conv2d | Linear) and module.form is not None:
            module.form.thaw()
