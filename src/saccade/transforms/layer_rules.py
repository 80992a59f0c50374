"""What our layers do to the axes of what they are given, where they differ from torch's."""

from __future__ import annotations

from saccade.graph import LayerAxes, Node


def our_axes(node: Node) -> LayerAxes | None:
    """A layer with ``keep_sides`` maps channels to others without weights of its own."""
    if hasattr(node.module, "keep_sides"):
        return LayerAxes("shortcut", -3, -3, (-2, -1))
    return None
