"""Small files in the canonical formats, and real CIFAR-10 where it can be had."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from saccade.data import cifar


@pytest.fixture
def small_cifar(monkeypatch):
    """CIFAR-10 and CIFAR-100 with 20 records a file instead of 10,000 or 50,000; returns the formats."""
    for name, form in list(cifar.FORMATS.items()):
        small = dataclasses.replace(
            form, train=tuple((file, 20) for file, _ in form.train), test=tuple((file, 20) for file, _ in form.test)
        )
        monkeypatch.setitem(cifar.FORMATS, name, small)
    return cifar.FORMATS


@pytest.fixture(scope="session")
def real_data(tmp_path_factory) -> Path:
    """A data root with real CIFAR-10: $SACCADE_DATA, else unpacked from ../shared/data, else the test skips."""
    given = os.environ.get("SACCADE_DATA")
    if given and (Path(given) / "cifar-10-batches-bin").is_dir():
        return Path(given)
    unpack = Path(__file__).parents[3] / "shared" / "data" / "unpack_cifar10.py"
    if not unpack.is_file():
        pytest.skip("no CIFAR-10: neither in $SACCADE_DATA nor in ../shared/data")
    root = tmp_path_factory.mktemp("real")
    subprocess.run([sys.executable, str(unpack), str(root)], check=True)
    return root
