"""Which spikes an attack flips, layer by layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saccade.graph.observe import outputs
from saccade.neurons import Spiking


def flip_rate(model: nn.Module, x: Tensor, x_adv: Tensor) -> dict[str, float]:
    """Share of the outputs of each layer of neurons, over steps, samples and neurons, that differ between images ``[N, ...]``
    and those of an attack, by path. Raises ValueError for images of different shapes."""
    if x.shape != x_adv.shape:
        raise ValueError(f"images {list(x.shape)} and attacked ones {list(x_adv.shape)} differ in shape")
    found = []
    for images in (x, x_adv):
        with torch.no_grad(), outputs(model, lambda path, module: isinstance(module, Spiking)) as given:
            model(images)
        found.append(given)
    return {
        path: float((torch.stack(ys) != torch.stack(found[1][path])).float().mean()) for path, ys in found[0].items()
    }
