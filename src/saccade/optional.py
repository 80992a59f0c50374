"""Libraries that only an extra installs, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any


def need(module: str, extra: str) -> Any:
    """The module. Raises ModuleNotFoundError with one line that names the extra which installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModuleNotFoundError(f"{module} is not there ({error}): pip install 'saccade-snn[{extra}]'") from None
