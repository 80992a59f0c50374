"""Commands that fine-tune a language model across clients that hold its first blocks and the data."""

from __future__ import annotations

import json as jsons
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from saccade.cli import common

app = typer.Typer(
    help="Fine-tune a language model across clients: each holds its data and the model's first blocks, a server the rest.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="A preset (small, paper-gpt2, ...) or a YAML file.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change a setting: clients.alpha=0.1. Repeatable.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run.")]


@app.command("partition")
def partition(
    recipe: Recipe,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for one file of text a client.")] = None,
    settings: Changes = None,
    json: AsJson = False,
) -> None:
    """Share the training text among clients by length, and say how different they are."""
    from rich.table import Table

    from saccade.split.partition import partition_report
    from saccade.split.recipe import load_recipe
    from saccade.split.world import client_name, share_text, write_parts

    loaded = load_recipe(recipe, settings or ())
    samples, ids, parts = share_text(loaded)
    report = partition_report([len(row) for row in ids], parts, loaded.clients.classes)
    if out is not None:
        write_parts(samples, parts, out)
        (out / "partition.json").write_text(jsons.dumps(report, indent=1) + "\n")
    if json:
        common.print_json(report)
        return
    table = Table("client", "samples", "tokens", "mean length", "divergence, bits")
    for i, row in enumerate(report["clients"]):
        values = (
            f"{row['samples']:,}",
            f"{row['tokens']:,}",
            f"{row['mean_length']:.1f}",
            f"{row['divergence_bits']:.4f}",
        )
        table.add_row(client_name(i), *values)
    common.print_table(table)
    print(
        f"mean Jensen-Shannon divergence of the length classes from all text's: {report['mean_divergence_bits']:.4f} bits"
    )


@app.command("plan")
def plan(recipe: Recipe, settings: Changes = None, json: AsJson = False) -> None:
    """Say what every cut costs each kind of client in memory, seconds and bytes a round, before anything runs.

    A model of a known shape needs no weights here. Memory and seconds are estimates; bytes are what the ledger will count
    (codecs without a fixed size: at most).
    """
    from rich.table import Table

    from saccade.split.federation import Federation
    from saccade.split.models import load_model
    from saccade.split.page import amount
    from saccade.split.planning import plan_rows
    from saccade.split.recipe import load_recipe
    from saccade.split.world import client_name

    loaded = load_recipe(recipe, settings or ())
    base = load_model(loaded.model, loaded.seed, shape_only=True)
    federation = Federation(loaded, base, [client_name(i) for i in range(loaded.clients.count)])
    rows = plan_rows(federation)
    if json:
        common.print_json({"cuts": federation.cuts, "rows": rows})
        return
    table = Table(
        "machine",
        "cut",
        "memory",
        "fits",
        "seconds a round",
        "activations",
        "gradients",
        "labels",
        "adapters",
        "control",
    )
    for row in rows:
        kinds = (amount(row["bytes"][k]) for k in ("activations", "gradients", "labels", "adapters", "control"))
        fits = "yes" if row["fits"] else "no"
        table.add_row(
            str(row["machine"]), str(row["cut"]), amount(row["memory_bytes"]), fits, f"{row['seconds']:.3g}", *kinds
        )
    common.print_table(table)
    print(
        "bytes are of one client and round, both ways. Those of a step depend on neither cut nor rank; adapters alone do."
    )
    print("first cuts: " + ", ".join(f"{name} {cut}" for name, cut in list(federation.cuts.items())[:16]))


@app.command("simulate")
def simulate(
    recipe: Recipe,
    out: Annotated[Path, typer.Option("--out", help="Directory of the run; a run that was cut off goes on.")],
    settings: Changes = None,
    json: AsJson = False,
) -> None:
    """Run the whole federation in this process, on a virtual clock: the same result every time, however often it is
    cut off."""
    from saccade.split import local, runs
    from saccade.split.recipe import load_recipe
    from saccade.split.world import evaluate, make_world

    loaded = load_recipe(recipe, settings or ())
    world = make_world(loaded)
    runs.begin(out, loaded)
    before = evaluate(world.base, world.held_out)
    if not json:
        print(f"held-out loss before: {before['loss']:.4f} nats a token ({before['tokens']:,} tokens)")
    started = time.monotonic()
    live = sys.stderr.isatty() and not json

    def progress(done: int, of: int) -> None:
        if live:
            print(f"\r\033[K{done} of {of} clients", end="", file=sys.stderr, flush=True)

    def after(row: dict[str, Any]) -> None:
        if live:
            print("\r\033[K", end="", file=sys.stderr)
        if not json:
            print(_line(row), flush=True)

    federation = local.simulate(loaded, world, out, after, progress)
    more = {"before_loss": before["loss"], "wall_seconds": round(time.monotonic() - started, 2), "engine": "local"}
    summary = runs.finish(out, federation, more)
    if json:
        common.print_json(summary)
    else:
        _print_bill(summary)
        print(f"written: {out / 'report.html'}")


def _line(row: dict[str, Any]) -> str:
    from saccade.split.page import amount, number

    held = f", held out {number(row['eval_loss'])}" if "eval_loss" in row else ""
    counted = "" if row["counted"] else " (too few: nothing counted)"
    return (
        f"round {row['round'] + 1}: {row['finished']} of {row['asked']} clients{counted}, "
        f"train {number(row['train_loss'])}{held}, {row['seconds']:.2f} s, {amount(sum(row['bytes'].values()))}"
    )


def _print_bill(summary: dict[str, Any]) -> None:
    from saccade.split.page import amount

    total = sum(summary["bytes"].values()) or 1
    parts = ", ".join(f"{kind} {amount(count)} ({count / total:.1%})" for kind, count in summary["bytes"].items())
    print(
        f"held-out loss after: {summary['eval_loss']:.4f} nats a token"
        if summary["eval_loss"] is not None
        else "not scored"
    )
    print(f"bytes: {parts}")


@app.command("eval")
def evaluate_run(
    run: Run,
    data: Annotated[str | None, typer.Option("--data", help="Another text than the recipe's.")] = None,
    json: AsJson = False,
) -> None:
    """Score a run's global model on held-out text: nats a token, perplexity, share of next tokens that came out on
    top."""
    import math

    from saccade.split import runs
    from saccade.split.world import evaluate, held_out

    federation = runs.open_run(run)
    recipe = federation.recipe
    if data is not None:
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"eval": data})})
    scores = evaluate(federation.adapted(), held_out(recipe))
    scores["perplexity"] = math.exp(min(scores["loss"], 700))
    if json:
        common.print_json(scores)
    else:
        print(
            f"loss {scores['loss']:.4f} nats a token, perplexity {scores['perplexity']:.2f}, accuracy {scores['accuracy']:.2%} "
            f"({scores['tokens']:,.0f} tokens)"
        )


@app.command("report")
def report(run: Run) -> None:
    """Write the page of a run again from its state."""
    from saccade.split import runs

    print(runs.write_report(run, runs.open_run(run)))


@app.command("export")
def export(
    run: Run,
    out: Annotated[Path, typer.Option("--out", help="Folder of the adapter.")],
    base: Annotated[
        Path | None, typer.Option("--base", help="Write the base model here too, for Transformers.")
    ] = None,
) -> None:
    """Write the trained adapter as PEFT reads it."""
    from saccade.split import runs
    from saccade.split.export import export_base, export_peft

    federation = runs.open_run(run)
    export_peft(federation, out, None if base is None else str(base))
    if base is not None:
        export_base(federation, base)
    print(out)
