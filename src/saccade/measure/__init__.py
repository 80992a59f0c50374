"""Spikes, synaptic operations, energy and memory of a model, counted from the tensors that flow through it."""

from saccade.graph.alphabet import Alphabet
from saccade.graph.records import Counts, NeuronRecord, OpRecord
from saccade.measure.attention_stats import (
    AttentionMap,
    AttentionStats,
    attention_maps,
    attention_stats,
    receptive_field,
)
from saccade.measure.bit_operations import BitOperations, bit_operations, shared_operations
from saccade.measure.energy import CONVENTIONS, ORRC, STANDARD, Bill, Convention, Energy
from saccade.measure.entropy import LevelEntropy, level_entropy
from saccade.measure.latency import Latency, latency
from saccade.measure.memory import TrainingMemory, inference_peak, training_memory
from saccade.measure.orrc import DEFECTS, OrrcGate, OrrcNetwork, OrrcTotals, orrc_energy
from saccade.measure.profiler import LayerRow, Profile, profile
from saccade.measure.relevance import relevance
from saccade.measure.size import FileSize, ModelSize, exact_size, model_size

__all__ = [
    "CONVENTIONS",
    "DEFECTS",
    "ORRC",
    "STANDARD",
    "Alphabet",
    "AttentionMap",
    "AttentionStats",
    "Bill",
    "BitOperations",
    "Convention",
    "Counts",
    "Energy",
    "FileSize",
    "Latency",
    "LayerRow",
    "LevelEntropy",
    "ModelSize",
    "NeuronRecord",
    "OpRecord",
    "OrrcGate",
    "OrrcNetwork",
    "OrrcTotals",
    "Profile",
    "TrainingMemory",
    "attention_maps",
    "attention_stats",
    "bit_operations",
    "exact_size",
    "inference_peak",
    "latency",
    "level_entropy",
    "model_size",
    "orrc_energy",
    "profile",
    "receptive_field",
    "relevance",
    "shared_operations",
    "training_memory",
]
