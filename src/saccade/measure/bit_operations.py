"""How many operations on bits the layers of a network take that are fed by spikes, as several papers count them.

ace: multiply-accumulates times the bits of weight and input (1), borders included. words: pairs of AND and population count on
words of 64 channels, one a weight bit; patch_words: population counts of the patch, shared by all outputs. shared: of codebook
layers, each codeword's product once for every input channel and place, then half an operation for each kernel that looks it
up: ``c_in 2^eta k^2 HW + c_in c_out HW / 2``, or ``c_in c_out k^2 HW`` where there are no fewer codewords than outputs.
Sources: Wei et al. (2025), S2NN, whose OPs are `ace`; Wang et al. (2021), Sub-bit Neural Networks, whose four published BOPs
are `shared` for one step (the half is inferred: with it all four come out).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from saccade.layers import Weighted
from saccade.layers.subbit import SubBit
from saccade.measure.profiler import Profile


@dataclass(frozen=True)
class BitOperations:
    """Of one layer, for one sample over all its steps; approximate_sops: rate * T * MACs, beside the exact count."""

    ace: float
    words: float
    patch_words: float
    shared: float | None
    sops: float
    approximate_sops: float


def shared_operations(c_in: int, c_out: int, places: int, positions: float, eta: int) -> float:
    """Bit operations of a binary layer whose kernels of ``places`` weights come from 2^eta codewords, at so many positions."""
    if 2**eta >= c_out:
        return c_in * c_out * places * positions
    return c_in * 2**eta * places * positions + 0.5 * c_in * c_out * positions


def bit_operations(model: nn.Module, found: Profile) -> dict[str, BitOperations]:
    """By path, of every convolution and linear layer that a profile saw fed by spikes; weights without a form have 32 bits."""
    result: dict[str, BitOperations] = {}
    modules = dict(model.named_modules())
    for record in found.records:
        layer: Any = modules.get(record.layer)
        if not isinstance(layer, Weighted) or not record.spiking or record.op not in ("conv", "matmul"):
            continue
        weight: Any = layer.weight
        bits = 32 if layer.form is None else math.ceil(layer.form.bits)
        c_out, c_in, places = weight.shape[0], weight.shape[1], weight[0, 0].numel()
        outputs = record.outputs / found.samples
        positions, words = outputs / c_out, places * math.ceil(c_in / 64)
        shared = None
        if isinstance(layer.form, SubBit):
            shared = shared_operations(c_in, c_out, places, positions, layer.form.eta)
        charged = 32 if layer.form is None else layer.form.bits
        macs = record.padded_macs / found.samples
        result[record.layer] = BitOperations(
            macs * charged,
            outputs * words * bits,
            positions * words,
            shared,
            record.counts.sops / found.samples,
            macs * record.events / record.inputs if record.inputs else 0.0,
        )
    return result
