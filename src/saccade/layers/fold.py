"""Time by convention: inside a model every tensor is ``[T, N, ...]``, and a layer without a sense of time folds the first two
axes.

What does not depend on time yet has T = 1 there, so everything before the first neuron runs once for a static image.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def fold_time(layer: Callable[[Tensor], Tensor], x: Tensor, axes: str) -> Tensor:
    """Apply a layer of ``[N, ...]`` to ``[T, N, ...]``: one call serves all steps.

    axes: the names of all axes, such as "T, N, C, H, W", for the error. Raises ValueError for another number of axes.
    """
    if x.dim() != axes.count(",") + 1:
        raise ValueError(f"expected [{axes}], got {list(x.shape)}")
    return layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
