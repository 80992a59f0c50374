"""Making a network smaller: fewer bits, fewer channels, no stored potentials, no silent shortcuts, and teachers to help."""

from saccade.compress.criteria import CRITERIA, Scores, read_scores, score, spike_map_rank
from saccade.compress.distill import distill, feature_distance, gram, teacher_loss
from saccade.compress.export import load_packed, packed_info, save_packed
from saccade.compress.natural import (
    ShortcutRecord,
    compare_logits,
    measure_shortcuts,
    natural_pruning,
    remove_shortcuts,
    shortcuts,
    silent_shortcuts,
)
from saccade.compress.prune import ChannelPlan, plan_by_budget, plan_by_ratio, prune_, recalibrate_, thaw_
from saccade.layers import (
    QuantizeConfig,
    SubBitConfig,
    memory_free_,
    quantize_,
    quantize_membranes_,
    restore_membranes_,
    subbit_,
    unquantize_,
    utilisation,
)
from saccade.neurons import MembraneConfig, MemoryFreeConfig

__all__ = [
    "CRITERIA",
    "ChannelPlan",
    "MembraneConfig",
    "MemoryFreeConfig",
    "QuantizeConfig",
    "Scores",
    "ShortcutRecord",
    "SubBitConfig",
    "compare_logits",
    "distill",
    "feature_distance",
    "gram",
    "load_packed",
    "measure_shortcuts",
    "memory_free_",
    "natural_pruning",
    "packed_info",
    "plan_by_budget",
    "plan_by_ratio",
    "prune_",
    "quantize_",
    "quantize_membranes_",
    "read_scores",
    "recalibrate_",
    "remove_shortcuts",
    "restore_membranes_",
    "save_packed",
    "score",
    "shortcuts",
    "silent_shortcuts",
    "spike_map_rank",
    "subbit_",
    "teacher_loss",
    "thaw_",
    "unquantize_",
    "utilisation",
]
