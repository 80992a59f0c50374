"""Time-folded layers, residual connections, attention and encoders."""

from saccade.layers.attention import ChannelGate, SpatialGate, SynA, SynAGate, TimeGate
from saccade.layers.encode import direct, latency, rate
from saccade.layers.fold import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Linear,
    MaxPool2d,
    ThresholdBatchNorm2d,
    fold_norm,
    folded,
)
from saccade.layers.membranes import (
    attach_memory_free,
    attach_quantized_membranes,
    memory_free_,
    quantize_membranes_,
    restore_membranes_,
)
from saccade.layers.packed import set_spike_packing
from saccade.layers.quantize import (
    QuantizeConfig,
    Quantized,
    SubBitConfig,
    attach_quantised,
    attach_subbit,
    quantize_,
    subbit_,
    unquantize_,
    utilisation,
)
from saccade.layers.recompute import Blocks, recomputed, set_recompute
from saccade.layers.residual import CONNECTIONS, SpikingShortcut, connect

__all__ = [
    "CONNECTIONS",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Blocks",
    "ChannelGate",
    "Conv2d",
    "Dropout",
    "Linear",
    "MaxPool2d",
    "QuantizeConfig",
    "Quantized",
    "SpatialGate",
    "SpikingShortcut",
    "SubBitConfig",
    "SynA",
    "SynAGate",
    "ThresholdBatchNorm2d",
    "TimeGate",
    "attach_memory_free",
    "attach_quantised",
    "attach_quantized_membranes",
    "attach_subbit",
    "connect",
    "direct",
    "fold_norm",
    "folded",
    "latency",
    "memory_free_",
    "quantize_",
    "quantize_membranes_",
    "rate",
    "recomputed",
    "restore_membranes_",
    "set_recompute",
    "set_spike_packing",
    "subbit_",
    "unquantize_",
    "utilisation",
]
