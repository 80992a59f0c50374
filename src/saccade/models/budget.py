"""Models that a file or a recipe describes are measured before memory is taken for them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from saccade.models.base import SpikingModel
from saccade.models.registry import create_model

MOST_PARAMETERS = 1 << 31  # numbers, 8 GiB in float32; the environment's SACCADE_MAX_PARAMETERS says otherwise
MOST_TENSORS = 20_000


class _TooLargeError(Exception):
    pass


def create_bounded(name: str, config: dict[str, Any]) -> SpikingModel:
    """``create_model``, after the same without memory has stayed within the budget. Raises ValueError if it does not."""
    most = int(os.environ.get("SACCADE_MAX_PARAMETERS") or MOST_PARAMETERS)
    try:
        with _counting(most), torch.device("meta"), torch.random.fork_rng(devices=[]):
            create_model(name, **config)
    except _TooLargeError as error:
        raise ValueError(f"{name}: {error}; set SACCADE_MAX_PARAMETERS if that is meant") from None
    except RuntimeError as error:  # others mean a model that needs memory to be built at all
        if "overflow" in str(error):
            raise ValueError(f"{name}: sizes that no memory holds ({' '.join(str(error).split())[:120]})") from None
    return create_model(name, **config)


def outline(name: str) -> SpikingModel:
    """A registered model to look at: without memory for its numbers, unless it cannot be built so."""
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            return create_model(name)
    except (RuntimeError, NotImplementedError):
        return create_model(name)


@contextlib.contextmanager
def _counting(most: int) -> Iterator[None]:
    numbers = tensors = 0

    def count(module: nn.Module, name: str, parameter: Any) -> None:
        nonlocal numbers, tensors
        if parameter is not None:
            numbers, tensors = numbers + parameter.numel(), tensors + 1
        if numbers > most:
            raise _TooLargeError(f"more than {most:,} parameters")
        if tensors > MOST_TENSORS:
            raise _TooLargeError(f"more than {MOST_TENSORS:,} layers")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
