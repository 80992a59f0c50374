"""What the golden values are taken of: the one place that knows how this version spells 0.1's networks and changes."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import nn

from saccade.compress import (
    MembraneConfig,
    MemoryFreeConfig,
    QuantizeConfig,
    SubBitConfig,
    memory_free_,
    plan_by_ratio,
    prune_,
    quantize_,
    quantize_membranes_,
    remove_shortcuts,
    score,
    shortcuts,
    subbit_,
)
from saccade.models import create_model, list_models, model_card
from saccade.models.fuse import fuse
from saccade.verify import wake

T, SAMPLES = 4, 3
CHANNELS = {"vgg16": (4,) * 13, "vggsnn": (4,) * 8, "vgg_small": (4,) * 6}

Change = Callable[[nn.Module, torch.Tensor], nn.Module]


def names() -> list[str]:
    return list_models()


def woken(name: str, **kwargs: object) -> tuple[nn.Module, torch.Tensor]:
    """A registered model, narrow, woken in float64 (float32 sums differ between processors), in eval mode; and frames for it."""
    torch.manual_seed(0)
    accepted = inspect.signature(model_card(name).build).parameters
    small = {"widths": (4, 6, 8, 10), "T": T, "channels": CHANNELS.get(name), "image_size": 32, "columns": 16} | kwargs
    model = create_model(name, **{key: value for key, value in small.items() if key in accepted})
    size = 16 if model_card(name).input[1] <= 32 and name not in CHANNELS else 32
    x = torch.rand(model.T, SAMPLES, model.in_channels, size, size, generator=torch.Generator().manual_seed(1)).double()
    model.double()
    wake(model, x)
    return model.eval(), x


def _in_place(change: Callable[[nn.Module], object]) -> Change:
    def apply(model: nn.Module, x: torch.Tensor) -> nn.Module:
        torch.manual_seed(7)
        change(model)
        return model.double().eval()

    return apply


def _pruned(model: nn.Module, x: torch.Tensor) -> nn.Module:
    scores = score(model, [x], "rate")
    prune_(model, plan_by_ratio(scores, 0.5))
    return model.double().eval()


def changes() -> dict[str, tuple[Change, tuple[str, ...]]]:
    """By name: what is done to a woken model, and the models it is done to."""
    every = tuple(names())
    return {
        "rescaw4": (_in_place(lambda m: quantize_(m, QuantizeConfig("rescaw", 4))), every),
        "lsq3": (_in_place(lambda m: quantize_(m, QuantizeConfig("lsq", 3))), ("vgg_small", "or_resnet18_small")),
        "dorefa2": (_in_place(lambda m: quantize_(m, QuantizeConfig("dorefa", 2))), ("vgg_small", "resnet19")),
        "balanced": (
            _in_place(lambda m: quantize_(m, QuantizeConfig("balanced_binary", 1))),
            ("vgg_small", "rows_mlp", "sew_resnet18_small"),
        ),
        "subbit": (_in_place(lambda m: subbit_(m, SubBitConfig(5))), ("vgg_small", "resnet19", "or_resnet18_small")),
        "memory_free_leak": (_in_place(lambda m: memory_free_(m, MemoryFreeConfig("leak"))), every),
        "memory_free_sliding": (
            _in_place(lambda m: memory_free_(m, MemoryFreeConfig("sliding", order=2))),
            ("vgg_small", "rows_mlp", "ms_resnet18_small"),
        ),
        "memory_free_masked": (
            _in_place(lambda m: memory_free_(m, MemoryFreeConfig("masked"))),
            ("vgg_small", "rows_mlp", "sew_resnet18_small"),
        ),
        "membranes": (
            _in_place(lambda m: quantize_membranes_(m, MembraneConfig())),
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
            lambda m, x: remove_shortcuts(m, list(shortcuts(m))),
            ("or_resnet18_small", "syna_resnet18_small", "add_resnet18_small"),
        ),
    }
