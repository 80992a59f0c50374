"""Recordings that lie outside the project."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of event recordings: $SACCADE_DATA/events, else ../shared/data/events, else the test skips."""
    roots = [Path(__file__).parents[3] / "shared" / "data"]
    if os.environ.get("SACCADE_DATA"):
        roots.insert(0, Path(os.environ["SACCADE_DATA"]))
    for root in roots:
        if (root / "events" / "formats").is_dir():
            return root / "events"
    pytest.skip("no event recordings: neither in $SACCADE_DATA/events nor in ../shared/data/events")
