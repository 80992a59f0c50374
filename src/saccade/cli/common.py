"""What several commands share."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saccade.data import Splits
    from saccade.experiment import Recipe
    from saccade.models import SpikingModel
    from saccade.train import Task


def is_packed(file: Path) -> bool:
    """Whether a file is one that save_packed wrote. Raises ValueError if there is no such file."""
    from safetensors import SafetensorError, safe_open

    from saccade.files.tensors import openable

    if not file.is_file():
        raise ValueError(f"{file}: no such model file")
    try:
        with openable(file) as name, safe_open(name, "pt") as opened:
            return '"saccade-packed-' in (opened.metadata() or {}).get("saccade", "")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file}: not a readable model file ({error})") from None


def load_network(file: Path) -> SpikingModel:
    """The model of a model file or a packed file, in eval mode."""
    from saccade.files import load_model, load_packed

    return load_packed(file) if is_packed(file) else load_model(file)


def with_data(
    file: Path, recipe: Recipe | None, set_name: str | None = None, data: Path | None = None, packed: bool = True
) -> tuple[SpikingModel, Splits, Task]:
    """A model file's model, the images to look at it with, and the task of its recipe (classification without one).

    Raises ValueError if they do not fit together, and for a packed file unless ``packed``.
    """
    from saccade.experiment import fit_task, splits_for
    from saccade.files import load_model
    from saccade.train import Classification

    network = load_network(file) if packed else load_model(file)
    splits = splits_for(recipe, set_name, data)
    return network, splits, fit_task(recipe.task if recipe else Classification(), network, splits, str(file))


def file_info(file: Path) -> dict[str, Any]:
    """The metadata of a model file or a packed file."""
    from saccade.files import model_info, packed_info

    return packed_info(file) if is_packed(file) else model_info(file)


def as_json(value: Any) -> str:
    return json.dumps(value, indent=1)


def print_json(value: Any) -> None:
    print(as_json(value))


def print_table(table: Any) -> None:
    """A rich table, as wide as it needs to be where the output is no terminal."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)  # names are text, with brackets or without
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=240)
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
