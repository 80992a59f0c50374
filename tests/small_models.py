"""Every registered model with few channels and steps, and frames for it: what most tests of all models run on."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from saccade.models import SpikingModel, create_model, list_models, model_card

T, SAMPLES = 4, 3
PYRAMID = {"widths": (4, 6, 8, 10), "depths": (1, 1, 1, 1, 1), "heads": 2}
# Families that are narrowed by other fields than widths or channels.
FAMILIES = {
    "spikformer": {"width": 16, "heads": 2, "depth": 1},
    "sdt_v1": {"width": 16, "heads": 2, "depth": 1},
    "snn_vit": {"width": 16, "heads": 2, "depth": 1},
    # few channels and places make small products, so they are scaled up
    "sdt_v2": {**PYRAMID, "attention": {"name": "sdsa3", "config": {"scale": 2.0}}},
    "sdt_v3": {**PYRAMID, "attention": {"name": "ssa_qk", "config": {"scale": 16.0, "value_ratio": 4, "halve": False}}},
    "qsd": {**PYRAMID, "attention": {"name": "qsdsa", "config": {"scale": 2.0}}},
    "segmenter": {**PYRAMID, "fpn_width": 8, "attention": {"name": "sdsa3", "config": {"scale": 2.0}}},
    "detector": {**PYRAMID, "fpn_width": 8, "attention": {"name": "sdsa3", "config": {"scale": 2.0}}},
    "sdtrack": {
        **PYRAMID,
        "attention": {"name": "ssa_kv", "config": {"scale": 16.0, "value_ratio": 4, "halve": False}},
        "search": 16,
        "template": 16,
        "side": 32,
        "head_width": 8,
    },
    "qkformer_10": {"width": 16, "heads": 2, "depths": (1, 1, 1)},
    "qkformer": {"width": 16, "heads": 2},
    "sma_vgg8": {"channels": (4, 8, 6), "hidden": (12,), "pool": 1, "sma_blocks": (2,)},
    "sma_ms_resnet": {
        "sma": {"name": "sma_relu", "config": {"kernels": (1, 3), "c_reduction": 2}},
        "sma_blocks": (1, 3),
    },
    "spiking_vgg11": {"channels": (4,) * 8, "hidden": (32, 32), "image_size": 16},
    "wrn16_4": {"widths": (4, 6, 8), "stem": 4},
    "spiking_resformer": {"widths": (4, 8, 12), "heads": (1, 2, 3), "depths": (1, 1, 1), "group": 8},
}
CHANNELS = {"vgg16": (4,) * 13, "vggsnn": (4,) * 8, "vgg_small": (4,) * 6}
WIDTHS = {"resnet19": (4, 6, 8)}  # three stages


def narrowed(name: str, **changes: object) -> dict[str, object]:
    """The settings with which a model is narrow."""
    known = {field.name for field in fields(model_card(name).config)}
    small = {"widths": WIDTHS.get(name, (4, 6, 8, 10)), "T": T, "channels": CHANNELS.get(name)}
    family = next((settings for start, settings in FAMILIES.items() if name.startswith(start)), {})
    small |= {"image_size": 32, "columns": 16} | family | changes
    return {key: value for key, value in small.items() if key in known and value is not None}


def distinct() -> list[str]:
    """The registered models but for those that, narrow, are another one under another name."""
    configs = {name: model_card(name).config.changed(name, narrowed(name)) for name in list_models()}
    first: list[str] = []
    for name, config in configs.items():
        if all(configs[other] != config for other in first):
            first.append(name)
    return first


def narrow(name: str, **changes: object) -> tuple[SpikingModel, Tensor]:
    """A model from a fixed seed, in training mode as it is built, and a sequence ``[T, N, C, H, W]`` of different frames."""
    torch.manual_seed(0)
    model = create_model(name, **narrowed(name, **changes))
    size = 16 if model_card(name).input[1] <= 32 and name not in CHANNELS else 32
    x = torch.rand(model.T, SAMPLES, model.in_channels, size, size, generator=torch.Generator().manual_seed(1))
    return model, x
