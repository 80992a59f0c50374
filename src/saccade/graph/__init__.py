"""A run of a model as a graph: what follows what, and what it may hold."""

from saccade.graph.alphabet import Alphabet
from saccade.graph.axes import Group, LayerAxes, Reader, Ties, layer_axes, ties
from saccade.graph.call import Call
from saccade.graph.declared import peer_levels, peer_reset, spiking_levels
from saccade.graph.graph import Graph, Node, Source, Value
from saccade.graph.observe import observe, outputs, selected
from saccade.graph.records import Counts, NeuronRecord, OpRecord
from saccade.graph.rules import counts
from saccade.graph.trace import is_layer, trace
from saccade.graph.watch import is_neuron

__all__ = [
    "Alphabet",
    "Call",
    "Counts",
    "Graph",
    "Group",
    "LayerAxes",
    "NeuronRecord",
    "Node",
    "OpRecord",
    "Reader",
    "Source",
    "Ties",
    "Value",
    "counts",
    "is_layer",
    "is_neuron",
    "layer_axes",
    "observe",
    "outputs",
    "peer_levels",
    "peer_reset",
    "selected",
    "spiking_levels",
    "ties",
    "trace",
]
