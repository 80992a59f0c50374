"""What a network must keep from one step to the next, by schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saccade.deploy.chain import Chain
from saccade.graph import observe
from saccade.neurons import LIF, state_bits

SCHEDULES = ("sequential", "layer_serial", "async")


@dataclass(frozen=True)
class LayerState:
    """Bits of a layer for one sample: kept between steps, and spikes on their way out of it."""

    persistent_bits: int
    in_flight_bits: int


@dataclass(frozen=True)
class StateBytes:
    """By neuron path. ``in_flight``: the most that two neighbouring layers need at once (layer-serial runs one at a time)."""

    layers: dict[str, LayerState]

    @property
    def persistent(self) -> int:
        return sum(-(-layer.persistent_bits // 8) for layer in self.layers.values())

    @property
    def in_flight(self) -> int:
        bits = [layer.in_flight_bits for layer in self.layers.values()]
        return max((-(-(a + b) // 8) for a, b in zip(bits, [*bits[1:], 0], strict=True)), default=0)


def state_bytes(
    subject: Chain | nn.Module, schedule: str, x: Tensor | None = None, bits: int | None = None
) -> StateBytes:
    """State of one sample under a schedule, of a program or of a model of LIF neurons (with a sample input ``x``).

    "sequential": every neuron stores a potential: of ``bits`` bits, by default as many as it says.
    "layer_serial": nothing is kept; T bits a neuron are in flight from a layer to the next.
    "async": ``order`` bits of history for each input of a layer. The first neurons, whose inputs are pixels, keep a potential
    of 32 bits there, unless the picture stands still: then their potentials are known beforehand.

    So "async" saves memory over potentials of b bits only where ``order * inputs < b * outputs``; with 2-bit membranes and
    four steps it does not. Raises ValueError for an unknown schedule or a model without ``x``.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")
    if isinstance(subject, Chain):
        return _of_program(subject, schedule, bits)
    if schedule != "sequential":
        raise ValueError(f"{schedule!r} is for chains: chain_of(lower(model, x)) makes one of a memory-free model")
    if x is None:
        raise ValueError("which input? the state of a model depends on its size: give x")
    sizes: dict[str, LayerState] = {}

    def note(path: str, module: Any, args: tuple[Any, ...], spikes: Tensor) -> None:
        kept = bits * spikes[0, 0].numel() if bits else state_bits(module, tuple(args[0].shape[2:]))
        sizes[path] = LayerState(kept, spikes[0, 0].numel())

    with torch.no_grad(), observe(subject, lambda path, module: isinstance(module, LIF), note):
        subject(x)
    if not sizes:
        raise ValueError(f"{type(subject).__name__} has no LIF neurons, which store potentials")
    return StateBytes(sizes)


def _of_program(program: Chain, schedule: str, bits: int | None) -> StateBytes:
    first = math.prod(program.layers[0].inputs)
    outputs = {program.first_path: first} | {layer.path: math.prod(layer.outputs) for layer in program.layers}
    if schedule == "sequential":
        return StateBytes({name: LayerState((bits or 32) * n, n) for name, n in outputs.items()})
    if schedule == "layer_serial":
        return StateBytes({name: LayerState(0, program.T * n) for name, n in outputs.items()})
    found = {program.first_path: LayerState(0 if program.still else 32 * first, first)}
    for layer in program.layers:
        inputs = math.prod(layer.pooled(torch.zeros(layer.inputs)).shape)
        found[layer.path] = LayerState(layer.order * inputs, outputs[layer.path])
    return StateBytes(found)
