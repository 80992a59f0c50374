"""What follows training, one file a stage."""

from saccade.experiment.stages.base import STAGES, Finished, StageConfig
from saccade.experiment.stages.natural_pruning import NaturalPruning, prune_run
from saccade.experiment.stages.profile import Profile
from saccade.experiment.stages.prune import Prune, finetune_recipe, prune_and_finetune
from saccade.experiment.stages.samples import Samples
from saccade.plugins import load_files_of

__all__ = [
    "STAGES",
    "Finished",
    "NaturalPruning",
    "Profile",
    "Prune",
    "Samples",
    "StageConfig",
    "finetune_recipe",
    "prune_and_finetune",
    "prune_run",
]

load_files_of(__name__)
