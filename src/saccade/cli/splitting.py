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

Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="A preset (small, paper, ...) or a YAML file.")]
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
    engine: Annotated[
        str, typer.Option(help="local, on a virtual clock; flower: clients are actors of Ray.")
    ] = "local",
    cpus: Annotated[
        float, typer.Option(help="flower: cores a client; 1 runs as many at once as there are cores.")
    ] = 1.0,
    json: AsJson = False,
) -> None:
    """Run the whole federation on this machine: the same result every time, however often it is cut off."""
    from saccade.split import local, runs
    from saccade.split.recipe import load_recipe
    from saccade.split.world import evaluate, make_world

    if engine not in ("local", "flower"):
        raise ValueError(f"--engine is local or flower, not {engine!r}")
    loaded = load_recipe(recipe, settings or ())
    live = sys.stderr.isatty() and not json

    def progress(done: int, of: int) -> None:
        if live:
            print(f"\r\033[K{done} of {of} clients", end="", file=sys.stderr, flush=True)

    def after(row: dict[str, Any]) -> None:
        if live:
            print("\r\033[K", end="", file=sys.stderr)
        if not json:
            print(_line(row), flush=True)

    if engine == "flower":
        from saccade.split import serving

        summary = serving.simulate_flower(loaded, out, cpus, after, progress)
        common.print_json(summary) if json else _print_bill(summary)
        return
    world = make_world(loaded)
    runs.begin(out, loaded)
    before = evaluate(world.base, world.held_out)
    if not json:
        print(f"held-out loss before: {before['loss']:.4f} nats a token ({before['tokens']:,} tokens)")
    started = time.monotonic()
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


Keys = Annotated[
    Path | None,
    typer.Option(
        "--keys", help="Folder of this side's keys, as `saccade split keys` wrote it. Without: a plain line, no tokens."
    ),
]


@app.command("keys")
def keys(
    folder: Annotated[Path, typer.Argument(help="Folder to write: server/ and one folder a client.")],
    clients: Annotated[list[str] | None, typer.Option("--client", help="A client's name. Repeatable.")] = None,
    count: Annotated[int, typer.Option(min=0, help="So many clients, named client-0, client-1, ...")] = 0,
    hosts: Annotated[
        list[str] | None, typer.Option("--host", help="Name or address of the server. Repeatable.")
    ] = None,
) -> None:
    """Make an authority, certificates and tokens: server/ stays with the operator, each other folder goes to its
    client."""
    from saccade.split.keys import make_keys
    from saccade.split.world import client_name

    names = [*(clients or []), *(client_name(i) for i in range(count))]
    if not names:
        raise ValueError("name the clients: --client NAME, or --count N")
    make_keys(folder, names, hosts or ("localhost", "127.0.0.1"))
    print(f"{folder}: keys of the server and {len(names)} clients")


@app.command("serve")
def serve(
    recipe: Recipe,
    out: Annotated[Path, typer.Option("--out", help="Directory of the run; a server that was killed goes on from it.")],
    listen: Annotated[str, typer.Option(help="Address of the stream.")] = "127.0.0.1:9443",
    keys: Keys = None,
    clients: Annotated[
        list[str] | None, typer.Option("--client", help="A client's name; default: client-0 ...")
    ] = None,
    engine: Annotated[str, typer.Option(help="direct, or flower: rounds and adapters through a SuperLink.")] = "direct",
    superlink: Annotated[str, typer.Option(help="flower: address on which SuperNodes find it.")] = "127.0.0.1:9092",
    live: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="A live read-only page. Off by default.")
    ] = None,
    patience: Annotated[float, typer.Option(help="Seconds that a client that is away is waited for.")] = 30.0,
    trusted: Annotated[bool, typer.Option("--trusted", help="All clients are mine: allow sz3 and zfp.")] = False,
    settings: Changes = None,
) -> None:
    """Hold the blocks behind the cuts, and lead a federation's rounds until they are done."""
    from saccade.split import serving
    from saccade.split.recipe import load_recipe
    from saccade.split.world import client_name

    loaded = load_recipe(recipe, settings or ())
    names = clients or [client_name(i) for i in range(loaded.clients.count)]
    options = serving.Options(out, listen, keys, tuple(names), live, patience, trusted, superlink)
    if engine not in ("direct", "flower"):
        raise ValueError(f"--engine is direct or flower, not {engine!r}")

    def say(words: str) -> None:
        print(words, flush=True)

    run = serving.serve_direct if engine == "direct" else serving.serve_flower
    _print_bill(run(loaded, options, say, lambda row: say(_line(row))))


@app.command("client")
def client(
    server: Annotated[str, typer.Argument(metavar="SERVER", help="HOST:PORT of `saccade split serve`.")],
    name: Annotated[str, typer.Option("--name", help="This client's name.")],
    data: Annotated[str, typer.Option("--data", help="Text, or JSON lines of {text: ...}.")],
    model: Annotated[
        str, typer.Option("--model", help="The model, as recipes name it; it must be the server's.")
    ] = "stories260K",
    keys: Keys = None,
    engine: Annotated[str, typer.Option(help="direct, or flower: SERVER is a SuperLink.")] = "direct",
    alpha: Annotated[float, typer.Option(help="The recipe's lora.alpha.")] = 16.0,
    targets: Annotated[
        list[str] | None, typer.Option("--target", help="The recipe's lora.targets. Repeatable.")
    ] = None,
    clip: Annotated[
        float | None, typer.Option(help="Hold every token's vector to this L2 norm before it is sent.")
    ] = None,
    noise: Annotated[float, typer.Option(help="Gaussian noise on it, in clips.")] = 0.0,
    retry: Annotated[float, typer.Option(help="Seconds for which a server that is away is tried again.")] = 300.0,
) -> None:
    """Take part in a federation with a text of one's own, until the server says that it is over."""
    from saccade.split import serving

    given = serving.ClientOptions(server, name, data, model, keys, alpha, tuple(targets or ()), clip, noise, retry)
    if engine not in ("direct", "flower"):
        raise ValueError(f"--engine is direct or flower, not {engine!r}")

    def say(words: str) -> None:
        print(words, flush=True)

    if engine == "flower":
        serving.join_flower(given, say)
        return
    finished = serving.join_direct(given, say)
    print(f"{name}: {finished} rounds finished")


@app.command("audit")
def audit(
    recipe: Recipe,
    cuts: Annotated[str | None, typer.Option("--cuts", help="Cuts to look at: 1,2. Default: all.")] = None,
    rows: Annotated[int, typer.Option(min=8, help="Blocks of text to train the probe on.")] = 320,
    delta: Annotated[float | None, typer.Option(help="Say the epsilon of the recipe's noise at this delta.")] = None,
    settings: Changes = None,
    json: AsJson = False,
) -> None:
    """Attack what the recipe's clients would send: how many of their tokens can be read back from it.

    The probe learns on the evaluation text and reads the training text. What it reads is a lower bound of what can be read.
    """
    import torch
    from rich.table import Table

    from saccade.split.audit import audit_inversion
    from saccade.split.families import family_of
    from saccade.split.models import load_model, load_tokenizer
    from saccade.split.parts import check_cut
    from saccade.split.privacy import gaussian_epsilon
    from saccade.split.recipe import load_recipe
    from saccade.split.text import stream_blocks
    from saccade.split.world import read_training_text

    loaded = load_recipe(recipe, settings or ())
    model = load_model(loaded.model, loaded.seed)
    depth = len(family_of(model).blocks)
    try:
        wanted = list(range(1, depth)) if cuts is None else [int(cut) for cut in cuts.split(",")]
    except ValueError:
        raise ValueError(f"--cuts takes numbers, e.g. 1,2, not {cuts!r}") from None
    for cut in wanted:
        check_cut(cut, depth)
    encode = load_tokenizer(loaded.model, loaded.data.tokenizer)
    texts = [
        stream_blocks([encode(sample) for sample in read_training_text(loaded, path)], loaded.data.length)[0]
        for path in (loaded.data.eval, loaded.data.train)
    ]
    torch.manual_seed(loaded.seed)
    found = audit_inversion(
        model, texts[0][:rows], texts[1][: rows // 4], wanted, loaded.codec.activations, loaded.privacy, loaded.seed
    )
    privacy = loaded.privacy
    epsilon = None
    if delta is not None:
        epsilon = gaussian_epsilon(privacy.noise, loaded.rounds * loaded.steps, delta) if privacy.clip else float("inf")
    if json:
        common.print_json({"cuts": found, **({} if epsilon is None else {"epsilon": epsilon, "delta": delta})})
        return
    table = Table("cut", "read by a linear probe", "read by the nearest embedding", "model's loss on it, nats")
    for row in found:
        table.add_row(str(row["cut"]), f"{row['probe']:.1%}", f"{row['embedding']:.1%}", f"{row['loss']:.3f}")
    common.print_table(table)
    print(
        "What stays on the client is the text; what it sends says the share above of it, and better attacks read more."
    )
    if epsilon is not None:
        print(
            f"epsilon {epsilon:.4g} at delta {delta:g}: one token's vector, sent {loaded.rounds * loaded.steps} times at most, "
            "local, by Renyi accounting of the Gaussian mechanism; what attention carries into later vectors is left out"
        )
