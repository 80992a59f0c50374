"""What haze costs a spiking classifier, and what dehazing gives back: python benchmarks/haze_classifier.py RUN --data DATA

RUN is a finished `saccade train dehaze/cifar10-clear`. Its test images are shown clear, through synthetic haze of three
densities, and through each dehazer after that. The settings of ours are those of the candidates that the hazy validation images
prefer; the test images are scored once each way. Writes results/dehaze/classifier.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from saccade.data import ImageSet, MappedSet, PixelMapConfig
from saccade.experiment import RunDirectory, environment, load_splits
from saccade.files import load_model
from saccade.report import write_text
from saccade.train import Classification, evaluate

BETAS = (1.0, 2.0, 3.0)
# On 32 x 32 pixels the paper's windows would see the whole picture.
OURS = [
    {"preset": preset, "window": window, "airlight_window": 3, "radius": 8}
    for preset in ("fidelity", "clear")
    for window in (3, 7, 15)
]
BASELINES: list[dict[str, Any]] = [{"method": name} for name in ("dcp", "cap", "bccr", "clahe")]


def accuracy(model: Any, images: ImageSet, *steps: tuple[str, dict[str, Any]]) -> float:
    for name, config in steps:
        images = MappedSet(images, PixelMapConfig.parse({"name": name, "config": config}).build())
    score: float = evaluate(model, images, Classification().build(model), batch_size=250).metrics["accuracy"]
    return score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parents[1] / "results" / "dehaze" / "classifier.json"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    run = RunDirectory(options.run)
    recipe, summary = run.recipe(), run.read_json("summary.json")
    splits = load_splits(recipe.data, options.data)
    model = load_model(options.run / "model.safetensors").eval()

    choice = []
    for config in OURS:
        found = [accuracy(model, splits.validation, ("haze", {"beta": beta}), ("dehaze", config)) for beta in BETAS]
        choice.append({"config": config, "validation_accuracy": found, "mean": sum(found) / len(found)})
        print(f"{config}: validation {choice[-1]['mean']:.2%}", flush=True)
    best = max(choice, key=lambda row: row["mean"])["config"]

    rows: list[dict[str, Any]] = []

    def score(beta: float | None, dehaze: dict[str, Any] | None) -> None:
        steps = [("haze", {"beta": beta})] if beta else []
        steps += [("dehaze", dehaze)] if dehaze else []
        rows.append({"beta": beta, "dehaze": dehaze, "test_accuracy": accuracy(model, splits.test, *steps)})
        print(rows[-1], flush=True)

    for beta in (None, *BETAS):
        for dehaze in (None, best, *BASELINES):
            score(beta, dehaze)
    env = environment()
    record = {
        "format": "saccade-haze-classifier-1",
        "command": "python benchmarks/haze_classifier.py RUN, RUN by saccade train dehaze/cifar10-clear",
        "commit": env["commit"],
        "date": env["started"][:10],
        "machine": {key: env[key] for key in ("python", "torch", "cpus", "threads")},
        "training": {
            key: summary[key]
            for key in (
                "recipe",
                "seed",
                "model",
                "parameters",
                "T",
                "epochs",
                "test_accuracy",
                "training_seconds",
                "images",
            )
        },
        "choice": choice,
        "rows": rows,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(options.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
