"""Several maps that are one input: side by side as tokens, or as blocks of a canvas that is zero elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from saccade.layers.norms import Norm
from saccade.layers.weighted import Conv2d

Size = tuple[int, int]  # height and width


def laid_out(maps: Sequence[Tensor]) -> Tensor:
    """Maps ``[T, N, C, h_i, w_i]`` side by side as tokens ``[T, N, C, 1, sum of h_i w_i]``, each row by row."""
    return torch.cat([one.flatten(3).unsqueeze(3) for one in maps], -1)


def taken_apart(x: Tensor, sizes: Sequence[Size]) -> list[Tensor]:
    """The maps ``[T, N, C, h_i, w_i]`` of tokens ``[T, N, C, 1, L]``. Raises ValueError for sizes that do not add up to L."""
    counts = [h * w for h, w in sizes]
    if x.dim() != 5 or x.shape[-2:] != (1, sum(counts)):
        raise ValueError(f"expected [T, N, C, 1, {sum(counts)}] for maps of {list(sizes)}, got {list(x.shape)}")
    return [part.squeeze(3).unflatten(-1, size) for part, size in zip(x.split(counts, -1), sizes, strict=True)]


class EachMap(nn.Module):
    """A layer of maps applied to each of the maps that lie side by side: tokens ``[T, N, C, 1, L]`` to tokens.

    Norms and neurons between such layers see all maps at once, so that their statistics are joint ones.
    """

    def __init__(self, layer: nn.Module, sizes: Sequence[Size]) -> None:
        super().__init__()
        self.layer, self.sizes = layer, tuple(sizes)

    def extra_repr(self) -> str:
        return f"sizes={self.sizes}"

    def forward(self, x: Tensor) -> Tensor:
        return laid_out([self.layer(one) for one in taken_apart(x, self.sizes)])


class CornerNorm(nn.Module):
    """A norm of a canvas ``[T, N, C, a + b, a + b]`` of which only two blocks count: ``a x a`` in the upper left corner,
    ``b x b`` in the lower right one. Their statistics alone are taken, and everything outside becomes 0.

    Source: Mask IPL (2026), arXiv 2609.18716.
    """

    def __init__(self, norm: Norm, a: int, b: int) -> None:
        super().__init__()
        self.norm, self.a, self.b = norm, a, b
        self.register_buffer("inside", corners(a, b), persistent=False)

    def extra_repr(self) -> str:
        return f"a={self.a}, b={self.b}"

    def forward(self, x: Tensor) -> Tensor:
        inside = self.get_buffer("inside").to(x.dtype)
        if not self.training:  # the same function of each place, so it need not be taken apart
            return self.norm(x) * inside
        a, b = self.a, self.b
        blocks = taken_apart(self.norm(laid_out([x[..., :a, :a], x[..., a:, a:]])), ((a, a), (b, b)))
        return on_canvas(*blocks)


def corners(a: int, b: int) -> Tensor:
    """float32 ``[a + b, a + b]``: 1 in the upper left ``a x a`` and the lower right ``b x b``, 0 elsewhere."""
    inside = torch.zeros(a + b, a + b)
    inside[:a, :a] = inside[a:, a:] = 1
    return inside


def on_canvas(first: Tensor, second: Tensor) -> Tensor:
    """Maps ``[..., a, a]`` and ``[..., b, b]`` on a canvas ``[..., a + b, a + b]``: upper left, lower right, zeros elsewhere.

    Source: Shan et al. (2025), SDTrack, intrinsic position learning.
    """
    a, b = first.shape[-1], second.shape[-1]
    above = nn.functional.pad(first, (0, b))
    below = nn.functional.pad(second, (a, 0))
    return torch.cat([above, below], -2)


def joint_maps(module: nn.Module, sizes: Sequence[Size]) -> nn.Module:
    """The module with every convolution that looks beyond its own place in an ``EachMap``: for maps that lie side by side."""
    for name, child in module.named_children():
        if not isinstance(child, Conv2d):
            joint_maps(child, sizes)
        elif child.kernel_size != (1, 1) or child.stride != (1, 1):
            setattr(module, name, EachMap(child, sizes))
    return module


def corner_norms(module: nn.Module, a: int, b: int) -> nn.Module:
    """The module with every norm in a ``CornerNorm`` of these blocks."""
    for name, child in module.named_children():
        if isinstance(child, Norm):
            setattr(module, name, CornerNorm(child, a, b))
        else:
            corner_norms(child, a, b)
    return module
