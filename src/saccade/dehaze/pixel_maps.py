"""Haze and dehazing as changes of a data set's images, by the names of a recipe's ``data.transforms``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from saccade.data.mapped import PIXEL_MAPS, PixelMap, PixelMapConfig
from saccade.dehaze import folder
from saccade.dehaze.dehazer import Dehazer
from saccade.dehaze.settings import settings_for


@dataclass(frozen=True)
class Dehaze(PixelMapConfig):
    """``{name: dehaze, config: {preset: clear, window: 7}}``: our dehazer, or a baseline by ``method``.

    ``preset`` (default: clear) and the fields after it are those of ``saccade.dehaze.Settings``; None is the preset's value.
    """

    method: str = "sdo"
    preset: str | None = None
    airlight_window: int | None = None
    airlight_fraction: float | None = None
    window: int | Literal["auto"] | None = None
    eps: float | None = None
    low: float | None = None
    high: float | None = None
    radius: int | None = None
    guide_eps: float | None = None
    subsample: int | None = None
    least: float | None = None
    clahe: Literal["matlab", "opencv", "none"] | None = None
    clip: float | None = None

    def build(self) -> PixelMap:
        """Raises ValueError for an unknown method or preset, an impossible value, and settings of a baseline (it has none)."""
        given = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name != "method" and getattr(self, field.name) is not None
        }
        if self.method == "sdo":
            preset = given.pop("preset", "clear")
            return Dehazer(settings_for(preset, **given))
        folder.make(self.method, Dehazer())  # raises for an unknown method now, not at the first batch
        if given:
            raise ValueError(f"method {self.method!r} takes no {', '.join(given)}: they are for 'sdo'")
        return partial(_one_by_one, method=self.method)


def _one_by_one(images: Tensor, method: str) -> Tensor:
    run = folder.make(method, Dehazer())
    if images.shape[1] == 1:
        return torch.stack([torch.from_numpy(run(image[0].numpy())[0])[None] for image in images])
    done = [run(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))[0] for image in images]
    return torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in done])


@dataclass(frozen=True)
class Haze(PixelMapConfig):
    """``{name: haze, config: {beta: 2}}``: I = J t + A (1 - t), t = exp(-beta depth), over a tilted plane.

    Depth is 1 at the top row and ``near`` at the bottom one: the images have no depth of their own.
    """

    beta: float | None = None
    airlight: float = 0.9
    near: float = 0.3

    def build(self) -> PixelMap:
        """Raises ValueError for impossible values, and without beta."""
        if self.beta is None:
            raise ValueError("beta, the density, is missing")
        if self.beta < 0 or not 0 <= self.airlight <= 1 or not 0 <= self.near <= 1:
            values = f"{self.beta:g}, {self.airlight:g}, {self.near:g}"
            raise ValueError(f"beta is 0 or more, airlight and near in [0, 1], not {values}")
        return partial(_veiled, beta=self.beta, airlight=self.airlight, near=self.near)


def _veiled(images: Tensor, beta: float, airlight: float, near: float) -> Tensor:
    depth = torch.linspace(1, near, images.shape[2])[:, None]
    t = torch.exp(-beta * depth)
    return (images * t + 255 * airlight * (1 - t) + 0.5).floor().clamp(0, 255).to(torch.uint8)


PIXEL_MAPS.register("dehaze", Dehaze())
PIXEL_MAPS.register("haze", Haze())
