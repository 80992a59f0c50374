"""What several commands share."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from saccade.data import Splits
    from saccade.experiment import Recipe
    from saccade.files import Opened
    from saccade.models import SpikingModel
    from saccade.train import Task


def data_for(
    opened: Opened, recipe: Recipe | None, set_name: str | None = None, data: Path | None = None
) -> tuple[Splits, Task]:
    """The images to look at a model with, and the task of its recipe (classification without one).

    Raises ValueError if they do not fit together.
    """
    from saccade.experiment import fit_task, splits_for
    from saccade.train import Classification

    splits = splits_for(recipe, set_name, data)
    return splits, fit_task(recipe.task if recipe else Classification(), ours(opened), splits, opened.name)


def ours(opened: Opened) -> SpikingModel:
    """The model, if it is one that files can hold. Raises ValueError for a module of somebody else."""
    from saccade.models import SpikingModel

    if not isinstance(opened.model, SpikingModel):
        raise ValueError(
            f"{opened.name}: takes a model that is registered, so that a file can say how to build it again"
        )
    return opened.model


def noise(opened: Opened, count: int) -> Tensor:
    """Images of noise, ``[count, C, H, W]``, for a model that has seen no others."""
    import torch

    assert opened.input_shape is not None
    return torch.rand(count, *opened.input_shape, generator=torch.Generator().manual_seed(0))


def trained(target: Path, packed: bool = True) -> tuple[Opened, Recipe | None]:
    """A model from a file or run directory, and the recipe of the run that it lies in.

    Raises ValueError for anything else, and for a packed file unless ``packed``.
    """
    from saccade.experiment import recipe_beside
    from saccade.files import model_file, open_model

    file = model_file(target)
    opened = open_model(file)
    if opened.packed and not packed:
        raise ValueError(f"{target}: is a packed file, made to run; give the model file that it was made from")
    return opened, recipe_beside(file)


def to_copy(
    model: str, out: Path | None, word: str, images: int, set_name: str | None, data: Path | None
) -> tuple[Opened, Path, Tensor, tuple[str, ...] | None, tuple[int, ...] | None]:
    """A model of which a changed copy is made, where that goes, images to compare the two on, and the file's classes and shape.

    The images are test images of its run or set; noise for a registered name, which is untrained.
    """
    from saccade.data import image_batches
    from saccade.files import open_model
    from saccade.models import MODELS

    if model in MODELS:
        opened = open_model(model)
        return opened, destination(out, opened, word), noise(opened, min(images, 8)), None, opened.input_shape
    opened, recipe = trained(Path(model), packed=False)
    target = destination(out, opened, word)  # before any image is read
    test = data_for(opened, recipe, set_name, data)[0].test
    return opened, target, next(iter(image_batches(test, images, limit=images))), test.classes, test.shape


def destination(out: Path | None, opened: Opened, word: str) -> Path:
    """Where a changed copy is written. Raises ValueError if that is the model itself."""
    target = out or opened.beside(word)
    if opened.file is not None and target.exists() and target.samefile(opened.file):
        raise ValueError(f"{target}: would be written over what it is made from; name another file with --out")
    return target


def as_json(value: Any) -> str:
    return json.dumps(value, indent=1)


def remove_run(directory: Path, name: str) -> None:
    """Make place for another run of the recipe ``name``. Raises ValueError if the directory holds anything else."""
    from saccade.experiment import RunDirectory

    if directory.exists():
        run = RunDirectory(directory)
        if not (directory / "recipe.yaml").exists() or run.recipe().name != name:
            raise ValueError(f"{directory}: exists and is no earlier run of {name}; choose another --out")
        with run.in_use():
            shutil.rmtree(directory)


def complain(message: str) -> None:
    """What went wrong, as one line on stderr."""
    words = " ".join(message.split())  # what a terminal would obey is shown instead: messages quote files
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)
    print(f"saccade: {shown}", file=sys.stderr)


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
