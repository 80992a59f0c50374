"""What our layers do to the axes of what they are given, where they differ from torch's."""

from __future__ import annotations

from saccade.graph import LayerAxes, Node
from saccade.layers import BatchNorm1d


def our_axes(node: Node) -> LayerAxes | None:
    """Rows ``[T, N, D]`` have their channels last; a layer with ``keep_sides`` maps channels to others without weights."""
    if isinstance(node.module, BatchNorm1d):
        return LayerAxes("norm", -1, -1)
    if hasattr(node.module, "keep_sides"):
        return LayerAxes("shortcut", -3, -3, (-2, -1))
    return None
