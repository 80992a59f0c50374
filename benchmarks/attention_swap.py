"""Every attention in the same small network on CIFAR-10, so that nothing but the attention differs.

    python benchmarks/attention_swap.py --data DATA [--seeds 3]     # goes on where it stopped; prints the table at the end

Spike-driven Transformer v1 of width 64, two pairs of blocks, four heads, T = 2, behind a linear stem of 4x4 patches (a
convolutional one hides what attention does). 5,000 training images, class by class, 2,000 for choosing the epoch, eight epochs
of AdamW, all 10,000 test images scored once. A network of a minute's training: the order among neighbours means nothing
beyond the spread of its seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from saccade.experiment import environment, parse, run
from saccade.layers.attention import ATTENTIONS
from saccade.report import write_text

TARGET = Path(__file__).parents[1] / "results" / "transformers" / "attention_swap.json"


def recipe(attention: str, seed: int, data: str) -> dict:
    return {
        "name": f"attention_swap/{attention}",
        "seed": seed,
        "model": {"name": "sdt_v1_small", "config": {"T": 2, "stem": "linear", "attention": attention}},
        "data": {
            "name": "cifar10",
            "root": data,
            "validation": 2000,
            "train_size": 5000,
            "augment": ["crop", "flip"],
        },
        "train": {
            "epochs": 8,
            "batch_size": 64,
            "optimizer": "adamw",
            "lr": 3e-3,
            "weight_decay": 0.05,
            "warmup_epochs": 1,
            "clip_norm": 1.0,
            "precision": "32-true",
            "accelerator": "cpu",
        },
        "stages": ["profile"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--attentions", nargs="*", default=list(ATTENTIONS))
    given = parser.parse_args()
    record = json.loads(TARGET.read_text()) if TARGET.exists() else {"format": "saccade-attention-swap-1", "runs": []}
    done = {(row["attention"], row["seed"]) for row in record["runs"]}
    for seed in range(given.seeds):
        for attention in given.attentions:
            if (attention, seed) in done:
                continue
            with tempfile.TemporaryDirectory() as folder:
                made = environment()
                summary = run(
                    parse(recipe(attention, seed, given.data)), Path(folder) / "run", quiet=True, report=False
                )
            cost = summary["profile"]
            row = {
                "attention": attention,
                "seed": seed,
                "test_accuracy": summary["test_accuracy"],
                "validation_accuracy": summary["validation_accuracy"],
                "chosen_epoch": summary["chosen_epoch"],
                "parameters": summary["parameters"],
                "spikes_per_neuron": cost["spikes_per_neuron"],
                "energy_standard_uj": cost["energy_standard_uj"],
                "training_seconds": summary["training_seconds"],
            }
            record["runs"].append(
                row | {key: made[key] for key in ("commit", "torch", "started", "threads", "saccade")}
            )
            write_text(TARGET, json.dumps(record, indent=1) + "\n")
            print(f"{attention:12} seed {seed}: {row['test_accuracy']:.2%}", flush=True)
    for attention in given.attentions:
        scores = [100 * row["test_accuracy"] for row in record["runs"] if row["attention"] == attention]
        spread = f"{statistics.stdev(scores):.2f}" if len(scores) > 1 else "-"
        print(f"{attention:12} {statistics.mean(scores):6.2f} % +- {spread} ({len(scores)} seeds)")


if __name__ == "__main__":
    main()
