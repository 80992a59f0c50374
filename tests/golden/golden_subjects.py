"""What the golden values are taken of: the one place that knows how this version spells 0.1's networks and changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import torch
from torch import nn

from saccade.compress import plan_by_ratio, score
from saccade.models import create_model, list_models, model_card
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

T, SAMPLES = 4, 3
WIDTHS = {"resnet19": (4, 6, 8)}  # three stages
CHANNELS = {"vgg16": (4,) * 13, "vggsnn": (4,) * 8, "vgg_small": (4,) * 6}

Change = Callable[[nn.Module, torch.Tensor], nn.Module]


def names() -> list[str]:
    return list_models()


def woken(name: str, **kwargs: object) -> tuple[nn.Module, torch.Tensor]:
    """A registered model, narrow, woken in float64 (float32 sums differ between processors), in eval mode; and frames for
    it.
    """
    torch.manual_seed(0)
    accepted = [field.name for field in fields(model_card(name).config)]
    small = {
        "widths": WIDTHS.get(name, (4, 6, 8, 10)),
        "T": T,
        "channels": CHANNELS.get(name),
        "image_size": 32,
        "columns": 16,
    } | kwargs
    model = create_model(name, **{key: value for key, value in small.items() if key in accepted})
    size = 16 if model_card(name).input[1] <= 32 and name not in CHANNELS else 32
    x = torch.rand(model.T, SAMPLES, model.in_channels, size, size, generator=torch.Generator().manual_seed(1)).double()
    model.double()
    wake(model, x)
    return model.eval(), x


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
