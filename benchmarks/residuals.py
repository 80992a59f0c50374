"""OR, ADD, IAND, plain and membrane-shortcut networks on real CIFAR-10, with and without SynA, side by side.

    python benchmarks/residuals.py --runs runs/residuals --out results/cifar10-residuals.json [--seeds 0 1]

Protocol: 8,000 training and 2,000 validation images (fixed, class by class), the whole test set scored once; a pair of
convolutions a stage, three of the four with a shortcut, widths 8 to 64, T = 4, neurons without input decay ("tet")
in every network, 10 epochs of AdamW, crop and flip. Everything but the connection and the attention is the same. An
interrupted series goes on where it stopped. Needs CIFAR-10 (SACCADE_DATA).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from saccade.experiment import RunDirectory, environment, parse, run
from saccade.report import write_text

WIDTHS, PAIRS = (8, 16, 32, 64), (1, 1, 1, 1)
SYNA = {"ma": "T", "ia": "T", "position": "b"}


def network(connection: str, attention: bool) -> dict[str, Any]:
    """The model section of a recipe."""
    config: dict[str, Any] = {"T": 4, "widths": WIDTHS, "neuron": "tet"}
    if connection == "membrane":
        extra = {key: SYNA[key] for key in ("ma", "position")} if attention else {}  # no shortcut spikes for IA to gate
        return {
            "name": "ms_resnet18",
            "config": {**config, "blocks": PAIRS, "stem": "cifar", "num_classes": 10, **extra},
        }
    config["pairs"] = PAIRS
    if attention:
        return {"name": "syna_resnet18", "config": {**config, "connection": connection, **SYNA}}
    return {"name": f"{connection}_resnet18", "config": config}


def recipe(connection: str, attention: bool, seed: int) -> dict[str, Any]:
    spiking_shortcuts = connection not in ("plain", "membrane")
    return {
        "name": f"residuals-{connection}{'-syna' if attention else ''}",
        "seed": seed,
        "model": network(connection, attention),
        "data": {"name": "cifar10", "validation": 2000, "train_size": 8000, "augment": ["crop", "flip"]},
        "train": {
            "epochs": 10,
            "batch_size": 64,
            "optimizer": "adamw",
            "lr": 5e-3,
            "weight_decay": 0.02,
            "warmup_epochs": 0.5,
            "clip_norm": 1.0,
            "precision": "bf16-mixed",
            "accelerator": "cpu",
            "channels_last": True,
            "compile": True,
        },
        "stages": ["profile", *(["natural_pruning"] if spiking_shortcuts else [])],
    }


def record(run: RunDirectory, connection: str, attention: bool) -> dict[str, Any]:
    """What the table needs of a finished run."""
    summary = run.read_json("summary.json")
    kept = ("seed", "parameters", "chosen_epoch", "validation_accuracy", "test_accuracy", "training_seconds", "profile")
    row = {"connection": connection, "syna": attention} | {key: summary[key] for key in kept}
    if (run.path / "pruning.json").exists():
        pruning = run.read_json("pruning.json")
        row["shortcuts"] = [
            {key: s.get(key) for key in ("path", "spikes", "rate", "gate_rate", "initial_rate", "removed", "story")}
            for s in pruning["shortcuts"]
        ]
        row["pruning"] = {key: pruning[key] for key in ("saved_parameters", "measured", "test")}
    env = run.read_json("env.json")
    return row | {"commit": env["commit"], "date": env["started"][:10], "threads": env["threads"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/residuals"))
    parser.add_argument("--out", type=Path, default=Path("results/cifar10-residuals.json"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        for attention in (False, True):
            for connection in ("or", "add", "iand", "plain", "membrane"):
                plan = parse(recipe(connection, attention, seed))
                directory = arguments.runs / f"{plan.name}-seed{seed}"
                run(plan, directory, resume=RunDirectory(directory).has_checkpoint(), report=False)
                rows.append(record(RunDirectory(directory), connection, attention))
                env = environment()
                machine = {key: env[key] for key in ("python", "torch", "cpus", "gpu")}
                command = "python benchmarks/residuals.py"
                table = {"format": "saccade-results-1", "command": command, "protocol": recipe("or", False, 0)}
                write_text(arguments.out, json.dumps({**table, "machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
