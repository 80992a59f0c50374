"""Making a network smaller: fewer bits, fewer channels, no stored potentials, no silent shortcuts, and teachers to help.

What changes a model is in ``saccade.transforms``, what writes it in ``saccade.files``; here is what decides and measures.
"""

from saccade.compress.criteria import CRITERIA, Scores, read_scores, score, spike_map_rank
from saccade.compress.distill import distill, feature_distance, gram, teacher_loss
from saccade.compress.natural import (
    ShortcutRecord,
    compare_logits,
    measure_shortcuts,
    natural_pruning,
    silent_shortcuts,
)
from saccade.compress.prune import ChannelPlan, plan_by_budget, plan_by_ratio, recalibrate_
from saccade.files import load_packed, packed_info, save_packed
from saccade.transforms import (
    MemoryFreeConfig,
    QuantizeConfig,
    QuantizeMembranesConfig,
    SubBitConfig,
    quantize_,
    utilization,
)

__all__ = [
    "CRITERIA",
    "ChannelPlan",
    "MemoryFreeConfig",
    "QuantizeConfig",
    "QuantizeMembranesConfig",
    "Scores",
    "ShortcutRecord",
    "SubBitConfig",
    "compare_logits",
    "distill",
    "feature_distance",
    "gram",
    "load_packed",
    "measure_shortcuts",
    "natural_pruning",
    "packed_info",
    "plan_by_budget",
    "plan_by_ratio",
    "quantize_",
    "read_scores",
    "recalibrate_",
    "save_packed",
    "score",
    "silent_shortcuts",
    "spike_map_rank",
    "teacher_loss",
    "utilization",
]
