"""Models by name, and the files they live in."""

from saccade.models import ms_resnet, resnet20, rows_mlp, sew_resnet, syna_resnet, vgg  # noqa: F401  (registers the models)
from saccade.models.base import Normalise, SpikingModel
from saccade.models.files import load_model, model_info, save_model
from saccade.models.fuse import Fused, fuse
from saccade.models.registry import ModelCard, create_model, list_models, model_card

__all__ = [
    "Fused",
    "ModelCard",
    "Normalise",
    "SpikingModel",
    "create_model",
    "fuse",
    "list_models",
    "load_model",
    "model_card",
    "model_info",
    "save_model",
]
