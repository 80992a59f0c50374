"""What a run is counted into: integers per operation and per neuron layer."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from saccade.graph.alphabet import Alphabet


@dataclass
class Counts:
    """Exact operation counts (Python ints, over all samples measured).

    sops: synaptic operations, one weight added for one binary event (integer spikes unrolled into |k| events),
        counting only outputs that exist: exact at borders and strides. Spike @ spike counts coincident event pairs.
    macs: multiply-accumulates of convolutions and matrix products whose input is analog.
    dense_macs: multiply-accumulates that the same convolutions and products take if dense, padding taps left out.
    adds, mults: elementwise additions and multiplications (a division is a multiplication).
    ands: coincidences of spike products and selections of analog values by spikes or masks (|k| a spike).
    norm: elements through batch normalisation. comparisons: of max-pools, maxima, ReLU, thresholds outside neurons.
    other: elements through everything else (sigmoid, softmax, layer norm, ...). neuron_updates: membrane updates.
    """

    sops: int = 0
    macs: int = 0
    dense_macs: int = 0
    adds: int = 0
    mults: int = 0
    ands: int = 0
    norm: int = 0
    comparisons: int = 0
    other: int = 0
    neuron_updates: int = 0

    def add(self, other: Counts) -> None:
        """Adds another's counts to these."""
        for name in COUNT_NAMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))


COUNT_NAMES = tuple(f.name for f in fields(Counts))


@dataclass
class OpRecord:
    """One kind of operation of one layer, summed over its calls.

    `op`: `conv`, `matmul`, `maxpool`, `norm`, `neuron` or `elementwise`. For the first three, `fan_in` is the taps of
    one output (padding included), `outputs` the output elements; `inputs` and `events` are the elements and the
    unrolled events of the spike input (0 when analog). `spiking` is the number of operands that are spikes.
    `readout`: no neuron fired after it, in any batch.
    """

    layer: str
    op: str
    fan_in: int = 0
    spiking: int = 0
    outputs: int = 0
    inputs: int = 0
    events: int = 0
    readout: bool = True
    alphabet: Alphabet | None = None
    counts: Counts = field(default_factory=Counts)

    @property
    def padded_macs(self) -> int:
        """Dense multiply-accumulates by the usual formula, which bills padding taps too."""
        return self.fan_in * self.outputs


@dataclass
class NeuronRecord:
    """One spiking layer: `neurons` per sample, `updates` = all elements seen, exact spikes per time step.

    state_bits: what it keeps from one step to the next for a sample, by its `state_spec`; None if it does not say.
    """

    layer: str
    role: str
    alphabet: Alphabet
    neurons: int
    updates: int = 0
    state_bits: int | None = None
    spikes_per_step: list[int] = field(default_factory=list)

    @property
    def spikes(self) -> int:
        """Unrolled events over all samples and steps."""
        return sum(self.spikes_per_step)
