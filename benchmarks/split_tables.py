"""Split fine-tuning measured: what each way of doing it costs in loss, simulated seconds and bytes. Goes on from
what is stored.

    python benchmarks/split_tables.py run results/split --seeds 3     # every run that results/split does not hold yet
    python benchmarks/split_tables.py scale results/split             # 8 to 512 simulated clients
    python benchmarks/split_tables.py write results/split docs/split.md
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from saccade.split.local import simulate
from saccade.split.recipe import SplitRecipe, load_recipe
from saccade.split.world import evaluate, make_world

SPEEDS = ", ".join(f"{{seconds_per_token: {speed}e-6}}" for speed in (1.0, 2.0, 3.0, 4.0))
SPREAD = f"clients.profiles=[{SPEEDS}]"
COMMON = ["rounds=8", "steps=10", "clients.count=4", "clients.alpha=0.5", "data.eval_rows=128", "lora.r_cut=8", SPREAD]
FP32 = ["codec.activations=fp32", "codec.gradients=fp32"]


def codec(name: str, *more: str) -> list[str]:
    return [f"codec.activations={name}", f"codec.gradients={name}", *more]


def topk(share: float) -> str:
    return f"{{name: topk, config: {{share: {share}}}}}"


WAYS: dict[str, tuple[str, list[str]]] = {
    "central": ("all text in one place, nothing split", ["clients.count=1", "server=none", "aggregator=fedit", "steps=40"]),
    "fedavg": ("FedAvg of adapters, whole model on clients", ["server=none"]),
    "sequential": ("one client a round, V2", ["server=v2", "clients.per_round=1", "clients.choice=in_turn", "rounds=32"]),
    "v1 fixed 1": ("V1, cut 1", ["cuts.config.cut=1"]),
    "v1 fixed 2": ("V1, cut 2", []),
    "v1 fixed 4": ("V1, cut 4", ["cuts.config.cut=4"]),
    "v1 random": ("V1, random cuts", ["cuts=random"]),
    "v1 adaptive": ("V1, adaptive cuts", ["cuts=adaptive"]),
    "v1 paper rule": ("V1, cuts by accuracy", ["cuts=paper"]),
    "v2 fixed 1": ("V2, cut 1", ["server=v2", "cuts.config.cut=1"]),
    "v2 fixed 2": ("V2, cut 2", ["server=v2"]),
    "v2 fixed 4": ("V2, cut 4", ["server=v2", "cuts.config.cut=4"]),
    "r_cut 4": ("rank 4 at the cut, 8 elsewhere", ["lora.r_cut=4"]),
    "r 4": ("rank 4 everywhere", ["lora.r=4", "lora.r_cut=4"]),
    "fedit": ("FedIT", ["aggregator=fedit"]),
    "hetlora": ("HetLoRA", ["aggregator=hetlora"]),
    "flora": ("FLoRA", ["aggregator=flora"]),
    "ffa": ("FFA-LoRA", ["aggregator=ffa"]),
    "fp32": ("fp32", FP32),
    "bf16": ("bf16", codec("bf16")),
    "int8": ("int8", codec("int8")),
    "int4": ("int4", codec("int4")),
    "int4 feedback": ("int4 with feedback", codec("int4", "codec.feedback=true")),
    "topk 25": ("top 25 %", codec(topk(0.25))),
    "topk 10": ("top 10 %", codec(topk(0.1))),
    "topk 10 feedback": ("top 10 % with feedback", codec(topk(0.1), "codec.feedback=true")),
    "sz3 1e-2": ("SZ3, 1 % of the range", codec("sz3")),
    "zfp": ("zfp, 0.1 standard deviations", codec("zfp")),
    "alpha 0.1": ("alpha 0.1", ["clients.alpha=0.1", "clients.min_size=4"]),
    "alpha 1": ("alpha 1", ["clients.alpha=1"]),
    "alpha inf": ("alpha infinite", ["clients.alpha=inf"]),
}  # fmt: skip


def recipe_of(way: str, seed: int) -> SplitRecipe:
    return load_recipe("small", [*COMMON, *WAYS[way][1], f"seed={seed}"])


def one(way: str, seed: int) -> dict[str, Any]:
    recipe = recipe_of(way, seed)
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"eval_every": recipe.rounds // 8})})
    world = make_world(recipe)
    before, began = evaluate(world.base, world.held_out)["loss"], time.process_time()
    federation = simulate(recipe, world)
    moved, curve = 0, []
    for row in federation.history:
        moved += sum(row["bytes"].values())
        if "eval_loss" in row:
            curve.append([row["round"] + 1, row["clock_s"], moved, row["eval_loss"]])
    return {
        "way": way, "seed": seed, "before": before, "curve": curve, "loss": curve[-1][3], "simulated_s": federation.clock_s,
        "bytes": federation.ledger.by_kind(), "last_cuts": federation.cuts, "cpu_s": round(time.process_time() - began, 1),
        "divergence_bits": world.report()["mean_divergence_bits"], "changes": [*COMMON, *WAYS[way][1]],
        "torch": torch.__version__,
    }  # fmt: skip


def run(folder: Path, seeds: int, only: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(seeds):
        for way in only or WAYS:
            file = folder / f"{way.replace(' ', '-')}-seed{seed}.json"
            if not file.exists():
                file.write_text(json.dumps(one(way, seed), indent=1) + "\n")
                print(file, flush=True)


def scale(folder: Path) -> None:
    """A round of many clients: seconds of this machine's CPU a client, and the process's largest memory."""
    rows = []
    for count in (8, 64, 512):
        recipe = load_recipe(
            "small",
            [
                f"clients.count={count}",
                "rounds=1",
                "steps=2",
                "clients.alpha=inf",
                "clients.min_size=1",
                "data.length=64",
                "data.pack=false",
            ],
        )
        world, began = make_world(recipe), time.process_time()
        federation = simulate(recipe, world)
        rows.append(
            {
                "clients": count,
                "finished": federation.history[-1]["finished"],
                "cpu_s_per_client": (time.process_time() - began) / count,
                "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
        print(rows[-1], flush=True)
        (folder / "scale.json").write_text(json.dumps(rows, indent=1) + "\n")


def spread(values: list[float], digits: int = 3) -> str:
    if len(values) < 2:
        return f"{values[0]:.{digits}f}"
    return f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}"


def stored(folder: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(folder.glob("*-seed*.json")):
        row = json.loads(file.read_text())
        found.setdefault(row["way"], []).append(row)
    return found


def table(found: dict[str, list[dict[str, Any]]], ways: list[str], common: str = "") -> list[str]:
    """common: what the row of the common settings is called here."""
    lines = [
        "| | held-out loss, nats | simulated seconds | activations and gradients, MB | adapters, MB | all, MB | seeds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for way in ways:
        rows = found.get(way, [])
        name = common if common and way == "v1 fixed 2" else WAYS[way][0]
        if not rows:
            lines.append(f"| {name} | not run | | | | | 0 |")
            continue
        moved = [(r["bytes"]["activations"] + r["bytes"]["gradients"]) / 1e6 for r in rows]
        adapters, total = (
            mean(x) / 1e6 for x in zip(*((r["bytes"]["adapters"], sum(r["bytes"].values())) for r in rows), strict=True)
        )
        loss, seconds = spread([r["loss"] for r in rows]), mean(r["simulated_s"] for r in rows)
        lines.append(
            f"| {name} | {loss} | {seconds:.2f} | {mean(moved):.2f} | {adapters:.3f} | {total:.2f} | {len(rows)} |"
        )
    return lines


def against_paper() -> list[str]:
    """Bytes over cut and rank of the set-up that the paper reports, from the cost model, beside its figures."""
    from saccade.split.federation import Federation
    from saccade.split.models import load_model

    theirs = {2: 3475, 4: 3534, 6: 3593, 8: 3652, 10: 3711}
    ranks = {1: 3462.5, 2: 3464.3, 4: 3468.0, 8: 3475.4}
    base = load_model("openai-community/gpt2", shape_only=True)

    def round_mb(cut: int, r_cut: int) -> tuple[float, float]:
        changes = [f"lora.r_cut={r_cut}", "cuts=fixed", "codec.activations=fp32", "codec.gradients=fp32"]
        federation = Federation(load_recipe("paper", changes), base, ["a"])
        step = sum(federation.costs.step_bytes().values())
        return step / 1e6, 2 * federation.costs.adapter_bytes(cut) / 1e6

    lines = ["| cut | theirs, MB | ours, MB a step | ours, MB of adapters a round |", "| --- | --- | --- | --- |"]
    for cut, mb in theirs.items():
        step, adapters = round_mb(cut, 8)
        lines.append(f"| {cut} | {mb} | {step:.2f} | {adapters:.3f} |")
    lines += [
        "",
        "| rank at the cut | theirs, MB | ours, MB a step | ours, MB of adapters a round |",
        "| --- | --- | --- | --- |",
    ]
    for rank, mb in ranks.items():
        step, adapters = round_mb(2, rank)
        lines.append(f"| {rank} | {mb} | {step:.2f} | {adapters:.3f} |")
    return lines


def write(folder: Path, page: Path) -> None:
    """Put the tables between the page's marks."""
    found = stored(folder)
    groups = {
        "baselines": [w for w in WAYS if w.startswith(("central", "fedavg", "sequential", "v1", "v2"))],
        "ranks": ["v1 fixed 2", "r_cut 4", "r 4", "fedit", "hetlora", "flora", "ffa"],
        "codecs": ["fp32", "v1 fixed 2", "bf16", "int8", "int4", "int4 feedback", "topk 25", "topk 10"],
        "alphas": ["alpha 0.1", "v1 fixed 2", "alpha 1", "alpha inf"],
    }
    groups["codecs"] += ["topk 10 feedback", "sz3 1e-2", "zfp"]
    common = {"ranks": "rank 8 everywhere, FlexLoRA", "codecs": "fp16", "alphas": "alpha 0.5"}
    blocks = {name: table(found, ways, common.get(name, "")) for name, ways in groups.items()} | {
        "paper": against_paper()
    }
    for name in ("scale", "simulation", "latency", "recovery", "clients", "audit"):
        file = folder / f"{name}.json"
        if file.exists():
            record = json.loads(file.read_text())
            blocks[name] = plain(record["rows"] if isinstance(record, dict) else record)
    text = page.read_text(encoding="utf-8")
    for name, lines in blocks.items():
        start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
        if start in text:
            head, _, rest = text.partition(start)
            text = head + start + "\n" + "\n".join(lines) + "\n" + end + rest.partition(end)[2]
    page.write_text(text, encoding="utf-8")


def plain(rows: list[dict[str, Any]]) -> list[str]:
    columns = list(rows[0])
    lines = [
        "| " + " | ".join(c.replace("_", " ") for c in columns) + " |",
        "| " + " | ".join("---" for _ in columns) + " |",
    ]
    return lines + ["| " + " | ".join(_cell(row[c]) for c in columns) + " |" for row in rows]


def _cell(value: Any) -> str:
    if not isinstance(value, float) or not math.isfinite(value):
        return str(value)
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["run", "scale", "write"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("page", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[])
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "run":
        run(given.folder, given.seeds, given.only)
    elif given.what == "scale":
        scale(given.folder)
    else:
        write(given.folder, given.page)
