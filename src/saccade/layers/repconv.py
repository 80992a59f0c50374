"""A 3x3 convolution in three factors that can be merged into one: 1x1, norm, depthwise 3x3, 1x1, norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saccade.layers.norms import BatchNorm2d, norm_of
from saccade.layers.weighted import Conv2d


class BorderPad(nn.Module):
    """One place on each side of maps ``[T, N, C, H, W]``, holding the ``border`` of the convolution that asks."""

    graph_layer = True  # one node of a graph: what it reads of the norm in front is no use of the norm's own numbers

    def forward(self, y: Tensor, owner: RepConv) -> Tensor:
        border = owner.border().to(y.dtype)[:, None, None]
        padded = border.expand(*y.shape[:-2], y.shape[-2] + 2, y.shape[-1] + 2).clone()
        padded[..., 1:-1, 1:-1] = y
        return padded


class RepConv(nn.Module):
    """``[T, N, C, H, W] -> [T, N, C', H, W]``: 2 C^2 + 9 C weights (C' = C) instead of the 9 C^2 of what it merges into.

    Behind the first norm the map is padded with what that norm makes of nothing, so that the factors equal one padded
    convolution up to the borders. Factored, the second and third convolution read real numbers; merged, spikes meet one dense
    kernel of 4.5 times the additions. Which of the two is meant has to be said with every count of operations.
    Source: Yao et al. (2024), Spike-driven Transformer V2, as released; Ding et al. (2021), RepVGG, for the padding.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = Conv2d(inputs, inputs, 1, bias=False)
        self.first_norm = BatchNorm2d(inputs)
        self.pad = BorderPad()
        self.depthwise = Conv2d(inputs, inputs, 3, groups=inputs, bias=False)
        self.second = Conv2d(inputs, outputs, 1, bias=False)
        self.second_norm = BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pad(self.first_norm(self.first(x)), self)
        y = self.second_norm(self.second(self.depthwise(y)))
        return y

    def border(self) -> Tensor:
        """What the first layer and its norm make of zeros, ``[C]``; also once the norm is folded."""
        norm = norm_of(self.first_norm)
        if norm is not None:
            offset: Tensor = norm.scale_and_offset()[1]
            return offset
        bias = self.first.bias
        return torch.zeros_like(self.first.weight[:, 0, 0, 0]) if bias is None else bias.detach()

    @torch.no_grad()
    def merged(self) -> Conv2d:
        """The one convolution, padded by zeros, that this is in eval mode."""
        a = self.first.used_weight()[:, :, 0, 0]
        b = self.second.used_weight()[:, :, 0, 0]
        kernel = self.depthwise.used_weight()[:, 0]
        one, offset = self.first_norm.scale_and_offset()
        two, last = self.second_norm.scale_and_offset()
        dense = Conv2d(a.shape[1], len(b), 3, padding=1).to(a)
        dense.weight.copy_(torch.einsum("o,oc,cij,c,cd->odij", two, b, kernel, one, a))
        assert dense.bias is not None
        dense.bias.copy_(last + two * (b @ (offset * kernel.sum((1, 2)))))
        return dense
