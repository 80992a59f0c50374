"""What recipes may do to images before a model sees them, by the names of ``data.transforms``.

Each maker takes the settings of a recipe and gives a function from uint8 ``[n, C, H, W]`` to the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor


def dehaze(method: str = "sdo", preset: str | None = None, **changes: Any) -> Callable[[Tensor], Tensor]:
    """``{name: dehaze, config: {preset: clear, window: 7}}``: saccade.dehaze, or a baseline by ``method``.

    Raises ValueError for an unknown method, preset or setting, and for settings of a baseline, which has none.
    """
    from saccade.dehaze import Dehazer, folder
    from saccade.dehaze.settings import settings_for

    if method == "sdo":
        return Dehazer(settings_for(preset or "clear", **changes))
    folder.make(method, Dehazer())  # raises for an unknown method now, not at the first batch
    given = [*(["preset"] if preset is not None else []), *changes]
    if given:
        raise ValueError(f"method {method!r} takes no {', '.join(given)}: they are for 'sdo'")
    return partial(_one_by_one, method=method)


def _one_by_one(images: Tensor, method: str) -> Tensor:
    from saccade.dehaze import Dehazer, folder

    run = folder.make(method, Dehazer())
    if images.shape[1] == 1:
        return torch.stack([torch.from_numpy(run(image[0].numpy())[0])[None] for image in images])
    done = [run(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))[0] for image in images]
    return torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in done])


def haze(beta: float, airlight: float = 0.9, near: float = 0.3) -> Callable[[Tensor], Tensor]:
    """``{name: haze, config: {beta: 2}}``: I = J t + A (1 - t), t = exp(-beta depth), over a tilted plane.

    Depth is 1 at the top row and ``near`` at the bottom one: the images have no depth of their own.
    """
    if beta < 0 or not 0 <= airlight <= 1 or not 0 <= near <= 1:
        raise ValueError(f"haze: beta is 0 or more, airlight and near in [0, 1], not {beta:g}, {airlight:g}, {near:g}")
    return partial(_veiled, beta=beta, airlight=airlight, near=near)


def _veiled(images: Tensor, beta: float, airlight: float, near: float) -> Tensor:
    depth = torch.linspace(1, near, images.shape[2])[:, None]
    t = torch.exp(-beta * depth)
    return (images * t + 255 * airlight * (1 - t) + 0.5).floor().clamp(0, 255).to(torch.uint8)


PIXELS: dict[str, Callable[..., Callable[[Tensor], Tensor]]] = {"dehaze": dehaze, "haze": haze}
