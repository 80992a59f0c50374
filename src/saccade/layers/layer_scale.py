"""A learnt factor for each channel of a branch, which may begin near nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saccade.layers.norms import Norm


class LayerScale(Norm):
    """``[T, N, C, H, W]`` times a learnt factor for each channel, which begins at ``start``.

    A small start (1e-6) lets a deep network begin as if the branch were not there; the factors then have to grow, which a
    training of a few dozen epochs does not see: begin at 0.1 to 1 there.
    Source: Touvron et al. (2021), CaiT, section 2; Qiu et al. (2025), QSD-Transformer, as released (1e-6).
    """

    channel_axis = 2

    def __init__(self, channels: int, start: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), float(start)))

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 5 or x.shape[2] != len(self.weight):
            raise ValueError(f"expected [T, N, {len(self.weight)}, H, W], got {list(x.shape)}")
        return x * self.weight[:, None, None]

    def extra_repr(self) -> str:
        return str(len(self.weight))

    def scale_and_offset(self) -> tuple[Tensor, Tensor]:
        return self.weight.detach(), torch.zeros_like(self.weight)

    def keep(self, channels: Tensor) -> None:
        kept = self.weight.detach()[channels.to(self.weight.device)].clone()
        self.weight = nn.Parameter(kept, requires_grad=self.weight.requires_grad)
