"""Commands that list what there is: image sets, models, recipes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from saccade.cli import common

data_app = typer.Typer(help="Image sets: what there is, and fetching it.", no_args_is_help=True, rich_markup_mode=None)


@data_app.command("list")
def data_list() -> None:
    """List the image sets."""
    from saccade.data import describe, names

    for name in names():
        print(f"{name:<16} {describe(name)}")


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


def models(
    pattern: Annotated[str, typer.Argument(help='Shell pattern, such as "syna*".')] = "*",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models with their parameters and source."""
    from rich.table import Table

    from saccade.models import create_model, list_models, model_card

    found = list_models(pattern)
    if not found:
        raise ValueError(f"no model matches {pattern!r} (`saccade models` lists all)")
    rows = []
    for name in found:
        card = model_card(name)
        model = create_model(name)
        parameters = sum(p.numel() for p in model.parameters())
        rows.append(
            {"name": name, "parameters": parameters, "T": model.T, "summary": card.summary, "source": card.source}
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
    from saccade.train import load_recipe
    from saccade.train.recipe import dump

    if name is not None:
        print(dump(load_recipe(common.recipe_path(name))), end="")
        return
    for known in common.recipe_names():
        recipe = load_recipe(common.recipe_path(known))
        summary = re.split(r"(?<!al)\. ", recipe.notes)[0].rstrip(".")  # the first sentence, past "et al."
        print(f"{known:<34} {summary}")
