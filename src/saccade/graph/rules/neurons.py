"""The counting rule of our neuron kernel, where it is called outside a module that declares levels."""

from __future__ import annotations

from saccade.graph.alphabet import Alphabet
from saccade.graph.call import BINARY, Call
from saccade.graph.records import Counts, OpRecord
from saccade.graph.rules.registry import counts


@counts("saccade::lif")
def lif(call: Call) -> Alphabet:
    """A membrane update an element; spikes in {0, 1}."""
    updates = Counts(neuron_updates=call.out.numel())
    call.record(OpRecord(call.where, "neuron", outputs=call.out.numel(), counts=updates))
    return BINARY
