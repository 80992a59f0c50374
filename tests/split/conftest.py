"""Tests of the extra `split`: the real small model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def text_data() -> Path:
    """The folder with stories260K and WikiText-2: $SACCADE_DATA/text, else ../shared/data/text, else the test skips."""
    roots = [Path(__file__).parents[3] / "shared" / "data"]
    if os.environ.get("SACCADE_DATA"):
        roots.insert(0, Path(os.environ["SACCADE_DATA"]))
    for root in roots:
        if (root / "text" / "stories260K").is_dir():
            return root / "text"
    pytest.skip("no stories260K: neither in $SACCADE_DATA/text nor in ../shared/data/text")
