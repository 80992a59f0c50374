"""Code of other people that adds neurons, models, tasks, data sets, stages: installed packages, or modules that a user names.

A package says ``[project.entry-points."saccade.plugins"] name = "package.module"``; importing the module registers what it
adds. Files never bring code in: one that needs a plugin says which, and is refused without it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GROUP = "saccade.plugins"
_looked = False


def load_installed() -> None:
    """Import the plugins of installed packages, once. Raises ImportError naming the one that fails."""
    global _looked
    if _looked:
        return
    _looked = True  # first: what is imported asks the registries itself
    for point in importlib.metadata.entry_points(group=GROUP):
        try:
            importlib.import_module(point.module)
        except Exception as error:
            raise ImportError(f"the installed plugin {point.name} ({point.module}) fails: {error}") from error


def load_files_of(package: str) -> None:
    """Import every file of a package of ours, so that a file put there is known without being listed anywhere."""
    for found in pkgutil.iter_modules(sys.modules[package].__path__):
        importlib.import_module(f"{package}.{found.name}")


def load(module: str) -> None:
    """Import a plugin that the user named, with the working directory on the path.

    Raises ValueError, in one line, if it cannot be imported.
    """
    with working_directory():
        try:
            importlib.import_module(module)
        except Exception as error:
            message = " ".join(str(error).split())
            raise ValueError(f"--plugin {module}: cannot be imported ({type(error).__name__}: {message})") from error


@contextmanager
def working_directory() -> Iterator[None]:
    """The working directory on the import path, as ``python -m`` has it."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def plugin_of(value: object) -> str | None:
    """The module of somebody else that a class (or an instance of it) comes from; None for our own."""
    module = (value if isinstance(value, type) else type(value)).__module__
    return None if module.partition(".")[0] == "saccade" else module


def require(modules: list[str], source: str) -> None:
    """Raises ValueError if a file names plugins that are not loaded."""
    load_installed()
    for module in modules:
        if module not in sys.modules:
            raise ValueError(f"{source}: needs the plugin {module}; load it with --plugin {module}, or install it")
