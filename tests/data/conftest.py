"""Small files in the canonical formats."""

import dataclasses

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
