"""Fixtures for all tests."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from saccade.experiment import Recipe, parse

# The tensors here are small, and threads that share two cores with another job stall; `make asan` and `make tsan` ask for more.
torch.set_num_threads(int(os.environ.get("SACCADE_TEST_THREADS") or 1))

DIGITS: dict[str, Any] = {
    "name": "test-digits",
    "seed": 0,
    "model": {
        "name": "or_resnet18",
        "config": {"stem": "mnist", "T": 3, "widths": [4, 8], "pairs": [1, 1], "neuron": "tet"},
    },
    "data": {"name": "digits", "validation": 100, "train_size": 256, "test_size": 100},
    "train": {"epochs": 2, "batch_size": 64, "optimizer": "adam", "lr": 5e-3, "accelerator": "cpu"},
}


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """What tests keep goes into no user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SACCADE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def make_recipe() -> Callable[..., Recipe]:
    """A small run on digits; keyword arguments change keys, such as ``train__epochs=3``."""

    def make(**changes: Any) -> Recipe:
        raw = copy.deepcopy(DIGITS)
        for key, value in changes.items():
            *parents, last = key.split("__")
            place = raw
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = value
        return parse(raw)

    return make


@pytest.fixture(scope="session")
def real_data(tmp_path_factory) -> Path:
    """A data root with real CIFAR-10: $SACCADE_DATA, else unpacked from ../shared/data, else the test skips."""
    given = os.environ.get("SACCADE_DATA")
    if given and (Path(given) / "cifar-10-batches-bin").is_dir():
        return Path(given)
    unpack = Path(__file__).parents[2] / "shared" / "data" / "unpack_cifar10.py"
    if not unpack.is_file():
        pytest.skip("no CIFAR-10: neither in $SACCADE_DATA nor in ../shared/data")
    root = tmp_path_factory.mktemp("real")
    subprocess.run([sys.executable, str(unpack), str(root)], check=True)
    return root


@pytest.fixture(scope="session")
def haze_data() -> Path:
    """The folder of hazy pictures and clips: $SACCADE_DATA/haze, else ../shared/data/haze, else the test skips."""
    roots = [Path(__file__).parents[2] / "shared" / "data"]
    if os.environ.get("SACCADE_DATA"):
        roots.insert(0, Path(os.environ["SACCADE_DATA"]))
    for root in roots:
        if (root / "haze" / "real").is_dir():
            return root / "haze"
    pytest.skip("no hazy pictures: neither in $SACCADE_DATA/haze nor in ../shared/data/haze")
