"""LIF neurons whose potential is stored in a few bits between steps."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from saccade.deploy.engine import Native
from saccade.deploy.lowering import Lowering, lowers
from saccade.deploy.operations.membrane import Membrane, neurons
from saccade.deploy.program import Wire
from saccade.deploy.values import Affine, Integers, magnitude
from saccade.graph import Node
from saccade.neurons.quantized_membrane import QuantizedMembraneLIF, quantize_potential


@dataclass(frozen=True)
class StoredMembrane(Membrane):
    """A ``Membrane`` that keeps one of ``stored [K, ...]`` potentials: after a reset the k-th, if V reaches k of the ``edges
    [K - 1, ...]``, which grow with k."""

    name = "stored_membrane"
    edges: Integers
    stored: Integers

    def made(self, *given: Wire) -> Wire:
        if len(self.stored) != len(self.edges) + 1 or (np.diff(self.edges, axis=0) < 0).any():
            raise ValueError(f"{len(self.stored)} stored potentials and {len(self.edges)} edges, which grow")
        wire = super().made(*given)
        if np.broadcast_shapes(wire.shape, self.edges.shape[1:], self.stored.shape[1:]) != wire.shape:
            raise ValueError(f"stored potentials {list(self.stored.shape)} of a wire {list(wire.shape)}")
        return wire

    def largest(self, x: Wire) -> float:
        return super().largest(x) + magnitude(self.stored)  # more than what is stored and charged once more

    def native(self) -> Native:
        plain = super().native()
        return Native("stored_membrane", plain.numbers, (*plain.arrays, self.edges, self.stored))

    def after(self, v: Integers) -> Integers:
        found = np.broadcast_to(self.stored[0], v.shape).copy()
        for edge, value in zip(self.edges, self.stored[1:], strict=True):
            found = np.where(v >= edge, value, found)
        return found


@lowers(QuantizedMembraneLIF)
def quantized_membrane(low: Lowering, node: Node) -> Affine:
    neuron: Any = node.module
    config = neuron.config
    if isinstance(config.alpha, str):
        raise ValueError(
            "its potentials are scaled by the largest of each sample; with a number as alpha it can be lowered"
        )
    value = low.of(node.inputs[0])
    if value.lead != 2:
        raise ValueError("time and samples are one axis in its input")
    if config.lif.v_rest:
        raise ValueError("potentials that are stored from another rest than 0 cannot be lowered")

    def kept(plain: Membrane, one: Any) -> Membrane:
        edges, levels = (np.reshape(n, (-1, *[1] * (plain.thresholds.ndim - 1))) * one for n in _steps(config))
        reached, stored = np.ceil(np.round(edges, 6)).astype(np.int64), np.rint(levels).astype(np.int64)
        return StoredMembrane(**{f.name: getattr(plain, f.name) for f in fields(plain)}, edges=reached, stored=stored)

    axis = value.axis(neuron.channel_axis, len(node.inputs[0].shape)) if neuron._buffers.get("v_th") is not None else 0
    return neurons(low, neuron, node.path, value, axis, node.output.shape[0], kept)


def _steps(config: Any) -> tuple[Any, Any]:
    """What is stored, in order, and from which potential on each next one is: found by halving, to the last bit of float64."""
    wide = 4 * config.alpha + 4
    seen = quantize_potential(torch.linspace(-wide, wide, 200_001, dtype=torch.float64), config)
    levels = torch.unique(seen)
    low = torch.full((len(levels) - 1,), -wide, dtype=torch.float64)
    high = -low
    for _ in range(80):
        middle = (low + high) / 2
        above = quantize_potential(middle, config) >= levels[1:]
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return high.numpy(), levels.numpy()
