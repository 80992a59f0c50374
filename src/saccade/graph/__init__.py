"""A run of a model as a graph: what follows what, and what it may hold."""

from saccade.graph.observe import observe, outputs, selected

__all__ = ["observe", "outputs", "selected"]
