"""Attention, one file each."""

from saccade.layers.attention.syna import ChannelGate, SpatialGate, SynA, SynAGate, TimeGate

__all__ = ["ChannelGate", "SpatialGate", "SynA", "SynAGate", "TimeGate"]
