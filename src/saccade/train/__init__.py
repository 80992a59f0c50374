"""Training: recipes, the engine that runs them, and what a run leaves behind."""

from saccade.train.engine import build_model, check_fits, load_splits, pixel_maps, train
from saccade.train.evaluate import Evaluation, evaluate
from saccade.train.loop import Interrupted, TrainingError
from saccade.train.losses import LOSSES, loss_function
from saccade.train.recipe import DataSettings, ModelSettings, Recipe, TrainSettings, load_recipe, override
from saccade.train.schedule import learning_rate

__all__ = [
    "LOSSES",
    "DataSettings",
    "Evaluation",
    "Interrupted",
    "ModelSettings",
    "Recipe",
    "TrainSettings",
    "TrainingError",
    "build_model",
    "check_fits",
    "evaluate",
    "learning_rate",
    "load_recipe",
    "load_splits",
    "loss_function",
    "override",
    "pixel_maps",
    "train",
]
