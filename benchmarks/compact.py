"""A network under 100 kB beside its full-precision twin, on the whole of CIFAR-10.

    python benchmarks/compact.py --runs runs/compact --out results/compact.json [--seeds 0 1 2]

Trains qp_snn/cifar10-twin and, from it, qp_snn/cifar10-compact, for every seed, unless they were; an interrupted series goes on
where it stopped. Needs CIFAR-10 (SACCADE_DATA).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from saccade.compress.pipeline import pack
from saccade.experiment import Recipe, RunDirectory, environment, load_recipe, load_splits, recipe_path, run
from saccade.files import load_model
from saccade.measure import model_size
from saccade.report import write_text


def trained(recipe: Recipe, directory: Path) -> dict[str, Any]:
    """Train, unless it was, and give the row of the table."""
    place = RunDirectory(directory)
    summary = run(recipe, directory, resume=place.has_checkpoint(), report=False)
    env = place.read_json("env.json")
    model = load_model(directory / "model.safetensors")
    size = pack(model, directory / "packed.safetensors", load_splits(recipe.data))
    kept = (
        "parameters",
        "epochs",
        "validation_accuracy",
        "test_accuracy",
        "test_correct",
        "test_total",
        "training_seconds",
    )
    row = {key: summary[key] for key in (*kept, "profile")}
    row |= {
        "bytes_file": size,
        "bytes_qp": model_size(model).bits / 8,
        "commit": env["commit"],
        "date": env["started"][:10],
    }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/compact"))
    parser.add_argument("--out", type=Path, default=Path("results/compact.json"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        twin = arguments.runs / f"twin-{seed}"
        plan = load_recipe(recipe_path("qp_snn/cifar10-twin"), [f"seed={seed}"])
        rows.append({"network": "twin", "seed": seed} | trained(plan, twin))
        start = twin / "model.safetensors"
        plan = load_recipe(recipe_path("qp_snn/cifar10-compact"), [f"seed={seed}", f"model.start={start}"])
        rows.append({"network": "compact", "seed": seed} | trained(plan, arguments.runs / f"compact-{seed}"))
        env = environment()
        machine = {key: env[key] for key in ("python", "torch", "cpus", "gpu")}
        head = {"format": "saccade-compact-1", "command": "python benchmarks/compact.py", "machine": machine}
        write_text(arguments.out, json.dumps({**head, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
