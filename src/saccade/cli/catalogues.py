"""Commands that list what there is: image sets, models, recipes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saccade.cli import common

if TYPE_CHECKING:
    from saccade.config import Registry

data_app = typer.Typer(help="Image sets: what there is, and fetching it.", no_args_is_help=True, rich_markup_mode=None)


@data_app.command("list")
def data_list() -> None:
    """List the image sets."""
    from saccade.data import DATA_SETS

    for name, source in DATA_SETS.items():
        print(f"{name:<16} {source.describe()}{_origin(source)}")


@data_app.command("prepare")
def data_prepare(
    name: Annotated[str, typer.Argument(help="An image set (`saccade data list`).")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder to put it in (default: $SACCADE_DATA, ./data).")
    ] = None,
) -> None:
    """Fetch an image set from its canonical address, check it, unpack it; resumes a broken download.

    Without a network it says which file to place where; a file placed by hand is checked and unpacked.
    """
    from saccade.data import data_root, prepare

    place = prepare(name, data_root(data))
    print(f"{name} is ready in {place}")


def tasks() -> None:
    """List the tasks that a recipe can train for, with their settings: task: {name: NAME, config: {...}}.

    Those of plugins are followed by the module that they come from.
    """
    from saccade.train import TASKS

    _list(TASKS)


def attacks() -> None:
    """List the attacks that `saccade attack --attack NAME` knows, with their settings.

    Those of plugins are followed by the module that they come from.
    """
    from saccade.robust import ATTACKS

    _list(ATTACKS)


def neurons() -> None:
    """List the neurons that a recipe can build a model of, with their settings: neuron: NAME, or {name: NAME, config: {...}}.

    Those of plugins are followed by the module that they come from.
    """
    from saccade.neurons import NEURONS

    _list(NEURONS)


def ingredients() -> None:
    """List what training can add to a task, with its settings: ingredients: [NAME, {name: NAME, config: {...}}].

    Those of plugins are followed by the module that they come from.
    """
    import saccade.experiment.applications  # noqa: F401
    from saccade.train.ingredients import INGREDIENTS

    _list(INGREDIENTS)


def stages() -> None:
    """List the stages that can follow training, with their settings: stages: [NAME, {name: NAME, config: {...}}].

    Those of plugins are followed by the module that they come from.
    """
    from saccade.experiment import STAGES

    _list(STAGES)


def _list(registry: Registry[Any]) -> None:
    for name, config in registry.items():
        summary = (type(config).__doc__ or "").strip().splitlines()[0]
        print(f"{name:<16} {summary}{_origin(config)}")
        for field, value in config.settings().items():
            print(f"{'':<18}{field}: {value}")


def _origin(value: object) -> str:
    """Where a thing comes from, if it is not ours."""
    from saccade.plugins import plugin_of

    module = plugin_of(value)
    return f" [{module}]" if module else ""


def models(
    pattern: Annotated[str, typer.Argument(help='Shell pattern, such as "syna*".')] = "*",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models with their parameters and source."""
    from rich.table import Table

    from saccade.models import list_models, model_card, outline

    names = list_models(pattern)
    if not names:
        raise ValueError(f"no model matches {pattern!r} (`saccade models` lists all)")
    rows = []
    for name in names:
        card = model_card(name)
        model = outline(name)
        parameters = sum(p.numel() for p in model.parameters())
        rows.append(
            {
                "name": name,
                "parameters": parameters,
                "T": model.T,
                "summary": card.summary,
                "source": card.source + _origin(model),
            }
        )
    if json:
        common.print_json(rows)
        return
    table = Table()
    for column in ("name", "parameters", "T", "summary", "source"):
        table.add_column(column, justify="right" if column in ("parameters", "T") else "left")
    for row in rows:
        table.add_row(row["name"], f"{row['parameters']:,}", str(row["T"]), row["summary"], row["source"])  # type: ignore[arg-type]
    common.print_table(table)


def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this recipe with every default written out.")] = None,
) -> None:
    """List the recipes of the package, or print one."""
    from saccade.experiment import dump, load_recipe, recipe_names

    if name is not None:
        print(dump(load_recipe(name)), end="")
        return
    for known in recipe_names():
        recipe = load_recipe(known)
        summary = re.split(r"(?<!al)\. ", recipe.notes)[0].rstrip(".")  # the first sentence, past "et al."
        print(f"{known:<34} {summary}")
