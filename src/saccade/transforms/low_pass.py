"""A model that is shown a picture with fewer frequencies in each step: the encoder of FEEL."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from saccade.layers.encode import low_pass
from saccade.models import SpikingModel
from saccade.models.base import Normalise
from saccade.transforms.base import TRANSFORMS, Change, Transform


class LowPass(nn.Module):
    """``[1 or T, N, C, H, W]`` to the normalised ``[T, N, C, H, W]``, step t with its width: ``layers.encode.low_pass``."""

    causal = True

    def __init__(self, normalise: Normalise, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.normalise, self.widths = normalise, widths
        self.fixed_T = len(widths)  # a step's width goes by its number

    @property
    def channels(self) -> int:
        return self.normalise.channels

    def extra_repr(self) -> str:
        return f"widths={self.widths}"

    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 1:
            return self.normalise(low_pass(x[0], self.widths))
        if len(x) != len(self.widths):
            raise ValueError(f"low_pass has widths for {len(self.widths)} steps, and got a sequence of {len(x)}")
        steps = [low_pass(picture, (width,)) for picture, width in zip(x, self.widths, strict=True)]
        return self.normalise(torch.cat(steps))


@dataclass(frozen=True)
class LowPassConfig(Transform):
    """Show fewer frequencies of a picture in each step: half the sides of the masks in ``widths``, one a step.

    None: falling evenly from half the picture's larger side, as released for T = 8 and 32x32 (16, 14, ..., 2). Reversible. All
    that lies before the first neuron then runs in every step. Source: FEEL-SNN (2024).
    """

    widths: tuple[int, ...] | None = None

    def apply(self, model: nn.Module) -> Change:
        """Raises ValueError, with the model untouched, for a model of event frames, another number of widths than its T, a
        width below 1, or a model that has one already."""
        if not isinstance(model, SpikingModel) or isinstance(model.normalise, LowPass) or model.normalise.identity:
            raise ValueError(f"{type(model).__name__}: low_pass goes before a model of pictures that has none yet")
        half = max(model.input_size) / 2
        widths = self.widths or tuple(max(round(half * (model.T - t) / model.T), 1) for t in range(model.T))
        if len(widths) != model.T or min(widths) < 1:
            raise ValueError(f"widths are whole numbers from 1, one for each of T = {model.T} steps, got {widths}")
        model.normalise = LowPass(model.normalise, widths)  # type: ignore[assignment]
        return Change(replace(self, widths=widths), ("normalise",))

    def undo(self, model: nn.Module) -> None:
        found = getattr(model, "normalise", None)
        if not isinstance(found, LowPass):
            raise ValueError(f"{type(model).__name__} has no low_pass before it")
        model.normalise = found.normalise  # type: ignore[assignment]


TRANSFORMS.register("low_pass", LowPassConfig())
