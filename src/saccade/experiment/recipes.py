"""The recipes of the package, by name."""

from __future__ import annotations

import difflib
import importlib.resources
from pathlib import Path


def recipe_names() -> list[str]:
    """Names of the recipes in the package, such as "syna_resnet/digits-or"."""
    root = importlib.resources.files("saccade") / "recipes"
    names = []
    for system in root.iterdir():
        if system.is_dir() and not system.name.startswith("_"):
            names += [f"{system.name}/{file.name[:-5]}" for file in system.iterdir() if file.name.endswith(".yaml")]
    return sorted(names)


def recipe_path(name: str | Path) -> Path:
    """A recipe's file: a path, or the name of one in the package. Raises ValueError, with the nearest, if there is neither."""
    if Path(name).exists() and not Path(name).is_dir():
        return Path(name)
    packaged = importlib.resources.files("saccade") / "recipes" / f"{name}.yaml"
    if packaged.is_file():
        return Path(str(packaged))
    known = recipe_names()
    last = {each.rpartition("/")[2]: each for each in known}
    near = difflib.get_close_matches(str(name), known, 3, 0.5) or [
        last[each] for each in difflib.get_close_matches(str(name), last, 3)
    ]
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(
        f"no recipe {str(name)!r}: neither a file nor one of the package's{hint} (`saccade recipes` lists them)"
    )
