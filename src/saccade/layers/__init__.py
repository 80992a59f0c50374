"""Layers over ``[T, N, ...]``: convolutions, matrix products, norms, pooling, residual connections, attention, encoders."""

from saccade.layers.attention import ChannelGate, SpatialGate, SynA, SynAGate, TimeGate
from saccade.layers.declared import declare_inputs
from saccade.layers.encode import direct, latency, low_pass, rate
from saccade.layers.fold import fold_time
from saccade.layers.norms import BatchNorm, BatchNorm2d, LayerNorm, Norm, ThresholdBatchNorm2d, batch_norms, norm_of
from saccade.layers.pad_shortcut import PadShortcut
from saccade.layers.pooling import AdaptiveAvgPool2d, AvgPool2d, Dropout, MaxPool2d
from saccade.layers.recompute import Blocks, recomputed, recomputes, set_recompute
from saccade.layers.residual import CONNECTIONS, Connection, MembraneBlock, ResidualBlock, SpikingShortcut
from saccade.layers.sma import SMA, SMAConfig, scale_weights
from saccade.layers.weight_forms import Codes, Stored, WeightForm
from saccade.layers.weighted import (
    Conv2d,
    Linear,
    Weighted,
    set_spike_packing,
    weight_forms,
    weighted,
    weighted_layers,
)

__all__ = [
    "CONNECTIONS",
    "SMA",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm",
    "BatchNorm2d",
    "Blocks",
    "ChannelGate",
    "Codes",
    "Connection",
    "Conv2d",
    "Dropout",
    "LayerNorm",
    "Linear",
    "MaxPool2d",
    "MembraneBlock",
    "Norm",
    "PadShortcut",
    "ResidualBlock",
    "SMAConfig",
    "SpatialGate",
    "SpikingShortcut",
    "Stored",
    "SynA",
    "SynAGate",
    "ThresholdBatchNorm2d",
    "TimeGate",
    "WeightForm",
    "Weighted",
    "batch_norms",
    "declare_inputs",
    "direct",
    "fold_time",
    "latency",
    "low_pass",
    "norm_of",
    "rate",
    "recomputed",
    "recomputes",
    "scale_weights",
    "set_recompute",
    "set_spike_packing",
    "weight_forms",
    "weighted",
    "weighted_layers",
]
