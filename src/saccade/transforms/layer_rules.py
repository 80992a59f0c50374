"""What our layers do to the axes of what they are given, where they are none of torch's."""

from __future__ import annotations

from typing import Any

from torch import nn

from saccade.graph import LayerAxes, Node
from saccade.layers import Norm, Weighted

TORCHS = (
    nn.modules.conv._ConvNd,
    nn.Linear,
    nn.modules.batchnorm._BatchNorm,
    nn.LayerNorm,
)  # saccade.graph knows these


def our_axes(node: Node) -> LayerAxes | None:
    """By what a layer says of itself: ``keep_sides``: it maps channels to others without weights of its own."""
    layer: Any = node.module
    if hasattr(layer, "keep_sides"):
        return LayerAxes("shortcut", -3, -3, (-2, -1))
    if isinstance(layer, TORCHS):
        return None
    if isinstance(layer, Norm):
        return LayerAxes("norm", layer.channel_axis, layer.channel_axis)
    if isinstance(layer, Weighted):
        role = "depthwise" if layer.depthwise else "weighted"
        return LayerAxes(role, layer.channel_axis, layer.channel_axis, tuple(range(layer.channel_axis + 1, 0)))
    return None
