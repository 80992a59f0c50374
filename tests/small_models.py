"""Every registered model with few channels and steps, and frames for it: what most tests of all models run on."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from saccade.models import SpikingModel, create_model, model_card

T, SAMPLES = 4, 3
CHANNELS = {"vgg16": (4,) * 13, "vggsnn": (4,) * 8, "vgg_small": (4,) * 6}
WIDTHS = {"resnet19": (4, 6, 8)}  # three stages


def narrow(name: str, **changes: object) -> tuple[SpikingModel, Tensor]:
    """A model from a fixed seed, in training mode as it is built, and a sequence ``[T, N, C, H, W]`` of different frames."""
    torch.manual_seed(0)
    known = {field.name for field in fields(model_card(name).config)}
    small = {"widths": WIDTHS.get(name, (4, 6, 8, 10)), "T": T, "channels": CHANNELS.get(name)}
    small |= {"image_size": 32, "columns": 16} | changes
    model = create_model(name, **{key: value for key, value in small.items() if key in known and value is not None})
    size = 16 if model_card(name).input[1] <= 32 and name not in CHANNELS else 32
    x = torch.rand(model.T, SAMPLES, model.in_channels, size, size, generator=torch.Generator().manual_seed(1))
    return model, x
