"""Models by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from saccade.config import Registry
from saccade.models.base import ModelConfig, SpikingModel


@dataclass(frozen=True)
class ModelCard:
    """What to know of a model before using it: input ``(C, H, W)`` it was published for, its source, the licence.

    config: what it is by default; ``create_model`` changes its fields.
    """

    name: str
    summary: str
    source: str
    input: tuple[int, int, int]
    config: ModelConfig
    licence: str = "Apache-2.0 (our code; no published weights included)"


MODELS: Registry[ModelCard] = Registry("model", "`saccade models`")


def register(card: ModelCard) -> None:
    """Make a model known by its card's name. Raises ValueError if the name is taken."""
    MODELS.register(card.name, card)


def list_models(pattern: str = "*") -> list[str]:
    """Names of the registered models that match a shell pattern, sorted."""
    return MODELS.names(pattern)


def model_card(name: str) -> ModelCard:
    """The card of a model. Raises ValueError with the nearest names if there is none."""
    return MODELS[name]


def create_model(name: str, /, **changes: Any) -> SpikingModel:
    """Build a registered model, with other values for fields of its config.

    Raises ValueError for an unknown name or field, or a value that does not fit.
    """
    model = MODELS[name].config.changed(name, changes).build()
    model.name = name
    return model
