"""Spiking neurons, their surrogates, and streaming."""

from saccade.neurons.lif import LIF, LIFConfig
from saccade.neurons.memory_free import MemoryFree, MemoryFreeConfig
from saccade.neurons.presets import PRESETS, neuron, strict
from saccade.neurons.quantized_membrane import MembraneConfig, QuantizedMembraneLIF, quantize_potential
from saccade.neurons.spiking import Spiking, recording
from saccade.neurons.surrogate import ATan, Gaussian, Rectangle, Sigmoid, StraightThrough, Surrogate, Triangle
from saccade.neurons.temporal import Stream, Temporal

__all__ = [
    "LIF",
    "PRESETS",
    "ATan",
    "Gaussian",
    "LIFConfig",
    "MembraneConfig",
    "MemoryFree",
    "MemoryFreeConfig",
    "QuantizedMembraneLIF",
    "Rectangle",
    "Sigmoid",
    "Spiking",
    "StraightThrough",
    "Stream",
    "Surrogate",
    "Temporal",
    "Triangle",
    "neuron",
    "quantize_potential",
    "recording",
    "strict",
]
