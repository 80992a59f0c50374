"""Changes of a model, and what they need to know of it, read off its graph."""

from saccade.transforms.chains import NormChain, NormChains, norm_chains
from saccade.transforms.channels import ChannelGroup, Channels, channel_groups, channels_of

__all__ = [
    "ChannelGroup",
    "Channels",
    "NormChain",
    "NormChains",
    "channel_groups",
    "channels_of",
    "norm_chains",
]
