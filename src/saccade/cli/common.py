"""What several commands share."""

from __future__ import annotations

import contextlib
import importlib.resources
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saccade.data import Splits
    from saccade.models import SpikingModel
    from saccade.train import Recipe


def recipe_names() -> list[str]:
    """Names of the recipes in the package, such as "syna_resnet/digits"."""
    root = importlib.resources.files("saccade") / "recipes"
    found = []
    for system in root.iterdir():
        if system.is_dir() and not system.name.startswith("_"):
            found += [f"{system.name}/{file.name[:-5]}" for file in system.iterdir() if file.name.endswith(".yaml")]
    return sorted(found)


def recipe_path(name: str) -> Path:
    """A recipe's file: a path, or the name of one in the package. Raises ValueError if there is neither."""
    if Path(name).is_file():
        return Path(name)
    packaged = importlib.resources.files("saccade") / "recipes" / f"{name}.yaml"
    if packaged.is_file():
        return Path(str(packaged))
    raise ValueError(f"no recipe {name!r}: neither a file nor one of the package's (`saccade recipes` lists them)")


def open_run(path: Path) -> tuple[Path, Recipe | None]:
    """A model file and, where it lies in a run directory, the recipe it was trained with.

    ``path`` is a model file or a run directory. Raises ValueError if it is neither.
    """
    from saccade.train.rundir import RunDirectory

    file = path / "model.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"{path}: neither a model file nor a run directory with a model.safetensors")
    run = RunDirectory(file.parent)
    return file, run.recipe() if (run.path / "recipe.yaml").exists() else None


def splits_for(recipe: Recipe | None, name: str | None, root: Path | None) -> Splits:
    """The data a command works on: the recipe's, or the set named on the command line."""
    from saccade.cli.pixels import PIXELS
    from saccade.data import load
    from saccade.train import load_splits

    if recipe is not None and name in (None, recipe.data.name):
        return load_splits(recipe.data, root, PIXELS)
    if name is None:
        raise ValueError("which images? name a set with --set-name (the model does not lie in a run directory)")
    return load(name, root, validation=100)


def is_packed(file: Path) -> bool:
    """Whether a file is one that save_packed wrote. Raises ValueError if there is no such file."""
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise ValueError(f"{file}: no such model file")
    try:
        with safe_open(file, "pt") as opened:
            return '"saccade-packed-1"' in (opened.metadata() or {}).get("saccade", "")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file}: not a readable model file ({error})") from None


def load_network(file: Path) -> SpikingModel:
    """The model of a model file or a packed file, in eval mode."""
    from saccade.compress import load_packed
    from saccade.models import load_model

    return load_packed(file) if is_packed(file) else load_model(file)


def file_info(file: Path) -> dict[str, Any]:
    """The metadata of a model file or a packed file."""
    from saccade.compress import packed_info
    from saccade.models import model_info

    return packed_info(file) if is_packed(file) else model_info(file)


def as_json(value: Any) -> str:
    return json.dumps(value, indent=1)


def print_json(value: Any) -> None:
    print(as_json(value))


def print_table(table: Any) -> None:
    """A rich table, as wide as it needs to be where the output is no terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=240)
    console.print(table)


@contextlib.contextmanager
def passes(quiet: bool) -> Iterator[Callable[[str, int], None]]:
    """A progress callback that keeps one line up to date on a terminal's stderr, and takes it away at the end."""
    live = not quiet and sys.stderr.isatty()
    done: dict[str, int] = {}

    def tell(what: str, count: int) -> None:
        done[what] = done.get(what, 0) + count
        if live:
            print(f"\r\033[K{what}: {done[what]} images", end="", file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        if live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
