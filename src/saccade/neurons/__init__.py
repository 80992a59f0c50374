"""Spiking neurons, their surrogates, and streaming."""

from saccade.neurons.dendritic import Dendritic, DendriticConfig, DendriticScan
from saccade.neurons.integer import Integer, IntegerConfig, Unrolled, expanded_product, integrate_and_fire, unroll
from saccade.neurons.lif import LIF, LIFConfig
from saccade.neurons.mixing import (
    LeakMixing,
    LeakMixingConfig,
    MaskedMixing,
    MaskedMixingConfig,
    Mixing,
    MixingConfig,
    SlidingMixing,
    SlidingMixingConfig,
)
from saccade.neurons.noisy import NoisyLIF, NoisyLIFConfig
from saccade.neurons.presets import strict
from saccade.neurons.quantized_membrane import QuantizedMembraneConfig, QuantizedMembraneLIF, quantize_potential
from saccade.neurons.saccadic import Saccadic, SaccadicConfig
from saccade.neurons.spiking import NEURONS, NeuronConfig, Spiking, recording
from saccade.neurons.stream import Stream
from saccade.neurons.surrogate import (
    SURROGATES,
    ATan,
    Gaussian,
    Rectangle,
    Sigmoid,
    StraightThrough,
    Surrogate,
    Triangle,
)
from saccade.neurons.temporal import State, StateSpec, Temporal, state_bits
from saccade.plugins import load_files_of

__all__ = [
    "LIF",
    "NEURONS",
    "SURROGATES",
    "ATan",
    "Dendritic",
    "DendriticConfig",
    "DendriticScan",
    "Gaussian",
    "Integer",
    "IntegerConfig",
    "LIFConfig",
    "LeakMixing",
    "LeakMixingConfig",
    "MaskedMixing",
    "MaskedMixingConfig",
    "Mixing",
    "MixingConfig",
    "NeuronConfig",
    "NoisyLIF",
    "NoisyLIFConfig",
    "QuantizedMembraneConfig",
    "QuantizedMembraneLIF",
    "Rectangle",
    "Saccadic",
    "SaccadicConfig",
    "Sigmoid",
    "SlidingMixing",
    "SlidingMixingConfig",
    "Spiking",
    "State",
    "StateSpec",
    "StraightThrough",
    "Stream",
    "Surrogate",
    "Temporal",
    "Triangle",
    "Unrolled",
    "expanded_product",
    "integrate_and_fire",
    "quantize_potential",
    "recording",
    "state_bits",
    "strict",
    "unroll",
]

load_files_of(__name__)
