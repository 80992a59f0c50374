"""Libraries of the extra ``dehaze``, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any


def need(module: str) -> Any:
    """The module. Raises ModuleNotFoundError with one line that names the extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModuleNotFoundError(f"{module} is not there ({error}): pip install 'saccade-snn[dehaze]'") from None
