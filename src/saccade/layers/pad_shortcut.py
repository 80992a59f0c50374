"""A shortcut without parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.layers.fold import fold_time


class PadShortcut(nn.Module):
    """Every ``stride``-th place, and channels of zeros half before and half after: no parameters.

    Where channels were removed, ``source`` says which input channel each output channel takes, -1 for zeros.
    """

    graph_layer = True  # one node: how its channels hang together is for it to say
    channel_axis = -3
    source: Tensor | None

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        if c_out < c_in:
            raise ValueError(f"a shortcut that pads cannot lose channels: {c_in} to {c_out}")
        self.channels = c_in
        self.stride, self.before, self.after = stride, (c_out - c_in) // 2, c_out - c_in - (c_out - c_in) // 2
        self.register_buffer("source", None)

    def keep_sides(self, inside: Tensor | None, outside: Tensor | None) -> None:
        """Keep these input and output channels (None: all)."""
        source = self.source
        if source is None:
            source = torch.arange(-self.before, self.channels + self.after)
            source = torch.where(source < self.channels, source, -1).clamp(min=-1)
        if outside is not None:
            source = source[outside.to(source.device)]
        if inside is not None:
            place = torch.full((self.channels + 1,), -1, device=source.device)  # the last stands for zeros
            place[inside.to(source.device)] = torch.arange(len(inside), device=source.device)
            source, self.channels = place[source], len(inside)
        self.source = source

    def forward(self, x: Tensor) -> Tensor:
        if self.source is not None:
            return fold_time(self._gather, x, "T, N, C, H, W")
        return fold_time(self._pad, x, "T, N, C, H, W") if self.stride > 1 or self.before or self.after else x

    def _pad(self, x: Tensor) -> Tensor:
        return F.pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))

    def _gather(self, x: Tensor) -> Tensor:
        assert self.source is not None
        x = F.pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, 0, 1))  # a channel of zeros for index -1
        return x[:, self.source]
