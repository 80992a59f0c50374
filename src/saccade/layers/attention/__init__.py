"""Attention, one file each: those of spikes by name in ``ATTENTIONS``, and the gates of SynA."""

from saccade.layers.attention.base import ATTENTIONS, Attention, AttentionConfig, Site, pointwise
from saccade.layers.attention.syna import ChannelGate, SpatialGate, SynA, SynAGate, TimeGate
from saccade.plugins import load_files_of

__all__ = [
    "ATTENTIONS",
    "Attention",
    "AttentionConfig",
    "ChannelGate",
    "Site",
    "SpatialGate",
    "SynA",
    "SynAGate",
    "TimeGate",
    "pointwise",
]

load_files_of(__name__)
