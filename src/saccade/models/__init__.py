"""Models by name: one file a family."""

import importlib
from typing import Any

from saccade.models.base import ClassifierConfig, ModelConfig, Normalise, SpikingModel
from saccade.models.budget import create_bounded, outline
from saccade.models.registry import MODELS, ModelCard, create_model, list_models, model_card, register
from saccade.plugins import load_files_of

__all__ = [
    "MODELS",
    "ClassifierConfig",
    "ModelCard",
    "ModelConfig",
    "Normalise",
    "SpikingModel",
    "create_bounded",
    "create_model",
    "list_models",
    "model_card",
    "outline",
    "register",
]

load_files_of(__name__)


def __getattr__(name: str) -> Any:
    """``load_model``, ``save_model`` and ``model_info`` are of ``saccade.files``, which stands on the models."""
    if name in ("load_model", "save_model", "model_info"):
        return getattr(importlib.import_module("saccade.files"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
