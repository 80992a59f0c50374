"""Models by name: one file a family."""

import importlib
from typing import Any

from saccade.models import ms_resnet, resnet19, resnet20, rows_mlp, sew_resnet, syna_resnet, vgg  # noqa: F401  (registers them)
from saccade.models.base import ClassifierConfig, ModelConfig, Normalise, SpikingModel
from saccade.models.registry import MODELS, ModelCard, create_model, list_models, model_card, register

__all__ = [
    "MODELS",
    "ClassifierConfig",
    "ModelCard",
    "ModelConfig",
    "Normalise",
    "SpikingModel",
    "create_model",
    "list_models",
    "model_card",
    "register",
]


def __getattr__(name: str) -> Any:
    """``load_model``, ``save_model`` and ``model_info`` are of ``saccade.files``, which stands on the models."""
    if name in ("load_model", "save_model", "model_info"):
        return getattr(importlib.import_module("saccade.files"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
