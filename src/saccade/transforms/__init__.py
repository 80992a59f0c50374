"""Changes of a model that its file replays: one file each, applied and undone by one mechanism."""

from saccade.plugins import load_files_of
from saccade.transforms.attach_lrf import AttachLRFConfig
from saccade.transforms.base import TRANSFORMS, Change, Transform, apply, undo
from saccade.transforms.chains import NormChain, NormChains, norm_chains
from saccade.transforms.channels import ChannelGroup, Channels, channel_groups, channels_of
from saccade.transforms.fold_norms import FoldNormsConfig, Fused, fuse
from saccade.transforms.membranes import MemoryFreeConfig, QuantizeMembranesConfig
from saccade.transforms.merge_projections import MergeProjectionsConfig
from saccade.transforms.prune_channels import PruneChannelsConfig, ThawScalesConfig
from saccade.transforms.quantize import QUANTIZERS, QuantizeConfig, quantize_, utilization
from saccade.transforms.remove_shortcuts import RemoveShortcutsConfig, spiking_shortcuts
from saccade.transforms.subbit import SubBitConfig
from saccade.transforms.unrolling import UnrollConfig, UnrolledModel, unroll

__all__ = [
    "QUANTIZERS",
    "TRANSFORMS",
    "AttachLRFConfig",
    "Change",
    "ChannelGroup",
    "Channels",
    "FoldNormsConfig",
    "Fused",
    "MemoryFreeConfig",
    "MergeProjectionsConfig",
    "NormChain",
    "NormChains",
    "PruneChannelsConfig",
    "QuantizeConfig",
    "QuantizeMembranesConfig",
    "RemoveShortcutsConfig",
    "SubBitConfig",
    "ThawScalesConfig",
    "Transform",
    "UnrollConfig",
    "UnrolledModel",
    "apply",
    "channel_groups",
    "channels_of",
    "fuse",
    "norm_chains",
    "quantize_",
    "spiking_shortcuts",
    "undo",
    "unroll",
    "utilization",
]

load_files_of(__name__)
