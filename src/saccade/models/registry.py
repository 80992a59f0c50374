"""Models by name."""

from __future__ import annotations

import difflib
import fnmatch
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from saccade.models.base import SpikingModel


@dataclass(frozen=True)
class ModelCard:
    """What to know of a model before using it: input ``(C, H, W)`` it was published for, its source, the licence."""

    name: str
    summary: str
    source: str
    input: tuple[int, int, int]
    build: Callable[..., SpikingModel]
    licence: str = "Apache-2.0 (our code; no published weights included)"


_CARDS: dict[str, ModelCard] = {}


def register(card: ModelCard) -> None:
    """Make a model known by its card's name. Raises ValueError if the name is taken."""
    if card.name in _CARDS:
        raise ValueError(f"the model name {card.name!r} is taken")
    _CARDS[card.name] = card


def list_models(pattern: str = "*") -> list[str]:
    """Names of the registered models that match a shell pattern, sorted."""
    return sorted(fnmatch.filter(_CARDS, pattern))


def model_card(name: str) -> ModelCard:
    """The card of a model. Raises ValueError with the nearest names if there is none."""
    if name not in _CARDS:
        near = difflib.get_close_matches(name, _CARDS, 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"unknown model {name!r}{hint} (`saccade models` lists all)")
    return _CARDS[name]


def create_model(name: str, **kwargs: Any) -> SpikingModel:
    """Build a registered model. Raises ValueError for an unknown name or argument."""
    card = model_card(name)
    accepted = inspect.signature(card.build).parameters
    unknown = [key for key in kwargs if key not in accepted]
    if unknown:
        raise ValueError(f"{name} takes no argument {unknown[0]!r}; it takes {', '.join(accepted)}")
    model = card.build(**kwargs)
    model.created_as = (name, dict(kwargs))  # type: ignore[assignment]
    return model
