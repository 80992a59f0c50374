"""A file put into one of these packages is known without being listed anywhere."""

import importlib
import pkgutil
import sys

import pytest

from saccade.plugins import load_files_of

PACKAGES = [
    "data",
    "events.representations",
    "experiment.stages",
    "layers.attention",
    "layers.stems",
    "models",
    "neurons",
    "report.sections",
    "train.tasks",
    "transforms",
]


@pytest.mark.parametrize("name", PACKAGES)
def test_every_file_is_imported(name, tmp_path, monkeypatch):
    package = importlib.import_module(f"saccade.{name}")
    (tmp_path / "just_added.py").write_text("HERE = True\n")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    added = f"saccade.{name}.just_added"
    load_files_of(f"saccade.{name}")
    try:
        assert sys.modules[added].HERE
        for found in pkgutil.iter_modules(package.__path__):
            assert f"saccade.{name}.{found.name}" in sys.modules
    finally:
        sys.modules.pop(added, None)
