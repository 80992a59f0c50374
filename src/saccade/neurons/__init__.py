"""Spiking neurons, their surrogates, and streaming."""

from saccade.neurons.lif import LIF, LIFConfig, recording
from saccade.neurons.presets import PRESETS, neuron, strict
from saccade.neurons.surrogate import ATan, Gaussian, Rectangle, Sigmoid, StraightThrough, Surrogate, Triangle
from saccade.neurons.temporal import Stream, Temporal

__all__ = [
    "LIF",
    "PRESETS",
    "ATan",
    "Gaussian",
    "LIFConfig",
    "Rectangle",
    "Sigmoid",
    "StraightThrough",
    "Stream",
    "Surrogate",
    "Temporal",
    "Triangle",
    "neuron",
    "recording",
    "strict",
]
