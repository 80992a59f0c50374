"""What the golden values are taken of: the one place that knows how this version spells 0.1's networks and changes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from small_models import narrow
from torch import nn

from saccade.compress import plan_by_ratio, score
from saccade.models import list_models
from saccade.neurons import LeakMixingConfig, MaskedMixingConfig, SlidingMixingConfig
from saccade.transforms import (
    MemoryFreeConfig,
    QuantizeConfig,
    QuantizeMembranesConfig,
    RemoveShortcutsConfig,
    SubBitConfig,
    Transform,
    apply,
    fuse,
    spiking_shortcuts,
)
from saccade.verify import wake

Change = Callable[[nn.Module, torch.Tensor], nn.Module]


def names() -> list[str]:
    return list_models()


def woken(name: str, **changes: object) -> tuple[nn.Module, torch.Tensor]:
    """A registered model, narrow, woken in float64 (float32 sums differ between processors), in eval mode; frames for it."""
    model, x = narrow(name, **changes)
    model.double()
    wake(model, x.double())
    return model.eval(), x.double()


def _applied(transform: Transform) -> Change:
    def change(model: nn.Module, x: torch.Tensor) -> nn.Module:
        torch.manual_seed(7)
        apply(model, transform)
        return model.double().eval()

    return change


def _pruned(model: nn.Module, x: torch.Tensor) -> nn.Module:
    scores = score(model, [x], "rate")
    apply(model, plan_by_ratio(scores, 0.5).transform())
    return model.double().eval()


def _without_shortcuts(model: nn.Module, x: torch.Tensor) -> nn.Module:
    apply(model, RemoveShortcutsConfig(tuple(spiking_shortcuts(model))))
    return model


def changes() -> dict[str, tuple[Change, tuple[str, ...]]]:
    """By name: what is done to a woken model, and the models it is done to."""
    every = tuple(names())
    return {
        "rescaw4": (_applied(QuantizeConfig("rescaw", 4)), every),
        "lsq3": (_applied(QuantizeConfig("lsq", 3)), ("vgg_small", "or_resnet18_small")),
        "dorefa2": (_applied(QuantizeConfig("dorefa", 2)), ("vgg_small", "resnet19")),
        "balanced": (
            _applied(QuantizeConfig("balanced_binary", 1)),
            ("vgg_small", "rows_mlp", "sew_resnet18_small"),
        ),
        "subbit": (_applied(SubBitConfig(5)), ("vgg_small", "resnet19", "or_resnet18_small")),
        "memory_free_leak": (_applied(MemoryFreeConfig(LeakMixingConfig())), every),
        "memory_free_sliding": (
            _applied(MemoryFreeConfig(SlidingMixingConfig(order=2))),
            ("vgg_small", "rows_mlp", "ms_resnet18_small"),
        ),
        "memory_free_masked": (
            _applied(MemoryFreeConfig(MaskedMixingConfig())),
            ("vgg_small", "rows_mlp", "sew_resnet18_small"),
        ),
        "membranes": (
            _applied(QuantizeMembranesConfig()),
            ("vgg_small", "or_resnet18_small"),
        ),
        "fused": (lambda m, x: fuse(m, x, "conv").model, tuple(n for n in every if n != "rows_mlp")),
        "fused_threshold": (
            lambda m, x: fuse(m, x, "threshold").model,
            ("vgg_small", "plain_resnet18_small", "or_resnet18_small", "sew_resnet18_small"),
        ),
        "pruned": (
            _pruned,
            ("vgg16", "vgg_small", "vggsnn", "resnet20_wide", "resnet19", "ms_resnet18_small", "rows_mlp"),
        ),
        "without_shortcuts": (
            _without_shortcuts,
            ("or_resnet18_small", "syna_resnet18_small", "add_resnet18_small"),
        ),
    }
