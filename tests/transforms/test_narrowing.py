"""The groups hold: channels that are zero everywhere can be cut out of all that a group names, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_channels import narrow
from torch import Tensor, nn

from saccade.transforms import ChannelGroup, channel_groups
from saccade.verify import wake

TENSORS = ("weight", "bias", "running_mean", "running_var")
WIDTHS = ("in_channels", "in_features"), ("out_channels", "out_features", "num_features")


def cut(module: Any, name: str, axis: int, keep: Tensor) -> None:
    tensor = getattr(module, name)
    if tensor is not None and tensor.dim():
        kept = tensor.detach().index_select(axis, keep)
        setattr(module, name, nn.Parameter(kept) if isinstance(tensor, nn.Parameter) else kept)


def resize(module: Any, side: int, count: int) -> None:
    for name in WIDTHS[side]:
        if hasattr(module, name):
            setattr(module, name, count)


def silence(model: nn.Module, group: ChannelGroup, gone: Tensor) -> None:
    with torch.no_grad():
        for path in (*group.producers, *group.norms):
            module: Any = model.get_submodule(path)
            module.weight[gone] = 0
            if module.bias is not None:
                module.bias[gone] = 0


def take_out(model: nn.Module, groups: list[ChannelGroup], keeps: list[Tensor]) -> None:
    sides: dict[str, list[Tensor | None]] = {}
    for group, keep in zip(groups, keeps, strict=True):
        for path in (*group.producers, *group.norms):
            module = model.get_submodule(path)
            for name in TENSORS:
                if hasattr(module, name):
                    cut(module, name, 0, keep)
            resize(module, 1, len(keep))
        for path, block in group.consumers:
            if hasattr(model.get_submodule(path), "keep_sides"):
                sides.setdefault(path, [None, None])[0] = keep
                continue
            columns = (keep[:, None] * block + torch.arange(block)).flatten()
            cut(model.get_submodule(path), "weight", 1, columns)
            resize(model.get_submodule(path), 0, len(columns))
        for path in group.shortcuts:
            sides.setdefault(path, [None, None])[1] = keep
    for path, kept in sides.items():
        model.get_submodule(path).keep_sides(*kept)


MODELS = (
    *("or", "add", "iand", "and", "plain"),
    *(
        "vgg_small",
        "rows_mlp",
        "resnet20_wide",
        "resnet20_wide middles",
        "resnet19",
        "ms_resnet18_small",
        "sew_resnet18_small",
    ),
    *("sew_resnet50_small", "syna_resnet18_small"),
)


@pytest.mark.parametrize("name", MODELS)
def test_zero_channels_can_go(name):
    torch.manual_seed(0)
    options = {"identity_shortcuts": True} if name in MODELS[:5] else {"stem": 4} if name.startswith("resnet") else {}
    model, x = narrow(f"{name}_resnet18_small" if name in MODELS[:5] else name.split()[0], **options)
    model, x = model.double(), x.double()
    wake(model, x)
    model.eval()
    named = channel_groups(model, x)
    groups = [group for path, group in named.items() if ".gates." not in path]
    if name == "resnet20_wide middles":  # shortcuts bring channels that stay into those of a stage that go
        groups = [group for group in groups if not group.shortcuts]
    keeps = [torch.arange(0, group.size, 2) for group in groups]
    for group, keep in zip(groups, keeps, strict=True):
        silence(model, group, torch.tensor([i for i in range(group.size) if i not in keep.tolist()]))
    with torch.no_grad():
        before = model(x)
        take_out(model, groups, keeps)
        after = model(x)
    again = channel_groups(model, x)
    assert [again[group.producers[0]].size for group in groups] == [len(keep) for keep in keeps]
    assert again.keys() >= named.keys()  # a shortcut that gathers channels no longer ties its two sides
    assert before.abs().max() > 0
    if name not in ("syna_resnet18_small", "resnet20_wide"):  # gates take means over fewer channels; shortcuts as above
        assert (before - after).abs().max() <= 1e-9 * before.abs().max()
