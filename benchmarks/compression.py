"""Bits, quantizers, pruning criteria and sub-bit weights on real CIFAR-10, side by side.

    python benchmarks/compression.py --runs runs/compression --out results/compression.json [--seeds 0 1 2]

Protocol: 8,000 training and 2,000 validation images (fixed, class by class), the whole test set scored once a trained
network; ``vgg_small`` with widths 16 to 64, T = 2; 8 epochs of AdamW, crop and flip; after pruning 3 more with half the
learning rate. Not every combination: with SVS, weights of 32, 8, 4 and 2 bits by the vanilla quantizer and ReScaW, at two
shares of removed channels; with ReScaW at 4 bits, SVS, SCA, L1 and random; without pruning also LSQ, DoReFa, binary weights
and the sub-bit ones, those of 0.67 and 0.44 bits with and without OS-Quant and MPFD (teacher: the 32-bit network of the
same seed). An interrupted series goes on where it stopped. Needs CIFAR-10 (SACCADE_DATA).
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path
from typing import Any

import torch

from saccade.compress.pipeline import step_record
from saccade.experiment import Finished, RunDirectory, environment, load_splits, parse
from saccade.experiment import run as run_recipe
from saccade.experiment.stages import Prune, prune_and_finetune
from saccade.files import load_model
from saccade.report import write_text

CHANNELS = (16, 32, 32, 48, 48, 64)
RATIOS = (0.3, 0.6)


def quantized(method: str, bits: int) -> list[dict[str, Any]]:
    return [{"name": "quantize", "config": {"method": method, "bits": bits}}]


def subbit(eta: int, os: bool) -> list[dict[str, Any]]:
    return [{"name": "subbit", "config": {"eta": eta, "os": os}}]


# by name: transforms, whether it has a teacher, the criteria by which it is pruned
FORMS: dict[str, tuple[list[dict[str, Any]], bool, tuple[str, ...]]] = {
    "full": ([], False, ("svs",)),
    "vanilla-8": (quantized("vanilla", 8), False, ("svs",)),
    "vanilla-4": (quantized("vanilla", 4), False, ("svs",)),
    "vanilla-2": (quantized("vanilla", 2), False, ("svs",)),
    "rescaw-8": (quantized("rescaw", 8), False, ("svs",)),
    "rescaw-4": (quantized("rescaw", 4), False, ("svs", "sca", "l1", "random")),
    "rescaw-2": (quantized("rescaw", 2), False, ("svs",)),
    "lsq-4": (quantized("lsq", 4), False, ()),
    "dorefa-4": (quantized("dorefa", 4), False, ()),
    "binary": (quantized("binary", 1), False, ()),
    "balanced_binary": (quantized("balanced_binary", 1), False, ()),
}
for _eta in (6, 5, 4):
    FORMS[f"subbit-{_eta}-os-mpfd"] = (subbit(_eta, True), True, ())
    if _eta != 5:
        FORMS[f"subbit-{_eta}"] = (subbit(_eta, False), False, ())
        FORMS[f"subbit-{_eta}-os"] = (subbit(_eta, True), False, ())
        FORMS[f"subbit-{_eta}-mpfd"] = (subbit(_eta, False), True, ())


def recipe(form: str, seed: int, teacher: Path) -> dict[str, Any]:
    transforms, taught, _ = FORMS[form]
    raw: dict[str, Any] = {
        "name": f"compression-{form}",
        "seed": seed,
        "model": {"name": "vgg_small", "config": {"T": 2, "channels": list(CHANNELS)}, "transforms": transforms},
        "data": {"name": "cifar10", "validation": 2000, "train_size": 8000, "augment": ["crop", "flip"]},
        "train": {
            "epochs": 8,
            "batch_size": 64,
            "optimizer": "adamw",
            "lr": 4e-3,
            "weight_decay": 0.02,
            "warmup_epochs": 0.5,
            "clip_norm": 1.0,
            "evaluate_every": 2,
            "precision": "bf16-mixed",
            "channels_last": True,
            "accelerator": "cpu",
        },
        "stages": ["profile"],
    }
    if taught:
        raw["teacher"] = {"model": str(teacher), "method": "mpfd"}
    return raw


def network(form: str, seed: int, runs: Path) -> tuple[RunDirectory, dict[str, Any]]:
    """Train one network, unless it was, and give its row."""
    plan = parse(recipe(form, seed, runs / f"full-seed{seed}" / "model.safetensors"))
    run = RunDirectory(runs / f"{form}-seed{seed}")
    summary = run_recipe(plan, run.path, resume=run.has_checkpoint(), quiet=True, report=False)
    env = run.read_json("env.json")
    if not (run.path / "cost.json").exists():
        model = load_model(run.path / "model.safetensors")
        run.write_json("cost.json", step_record("trained", model, load_splits(plan.data), plan.task.build(model)))
    kept = ("parameters", "validation_accuracy", "test_accuracy", "training_seconds", "profile")
    row = {"form": form, "seed": seed, "criterion": None, "ratio": 0.0} | {key: summary[key] for key in kept}
    cost_row = run.read_json("cost.json")
    row |= {key: cost_row[key] for key in ("bytes_qp", "bytes_file")}
    return run, row | {"commit": env["commit"], "date": env["started"][:10]}


def pruned(run: RunDirectory, row: dict[str, Any], criterion: str, ratio: float) -> dict[str, Any]:
    """Prune and fine-tune a trained network, unless it was, and give its row."""
    directory = RunDirectory(run.path / f"{criterion}-{ratio:g}")
    if not (directory.path / "compression.json").exists():
        directory.path.mkdir(exist_ok=True)
        plan, summary = run.recipe(), run.read_json("summary.json")
        model = load_model(run.path / "model.safetensors")
        finished = Finished(model, plan.task.build(model), load_splits(plan.data), plan, directory, summary)
        config = {"criterion": criterion, "ratio": ratio, "finetune": {"epochs": 3, "lr": 2e-3}}
        settings = Prune.parse({"name": "prune", "config": config})
        directory.write_json("compression.json", {"steps": prune_and_finetune(finished, settings)})
    steps = directory.read_json("compression.json")["steps"]
    last = steps[-1]
    kept = ("parameters", "validation_accuracy", "test_accuracy", "bytes_qp", "bytes_file", "profile")
    before = {step["step"]: step["validation_accuracy"] for step in steps}
    return row | {"criterion": criterion, "ratio": ratio, "steps": before} | {key: last[key] for key in kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/compression"))
    parser.add_argument("--out", type=Path, default=Path("results/compression.json"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    pruned_first = sorted(FORMS, key=lambda form: not FORMS[form][2])
    for part in (pruned_first[:7], pruned_first[7:]):
        for seed, form in product(arguments.seeds, part):
            criteria = FORMS[form][2]
            run, row = network(form, seed, arguments.runs)
            rows.append(row)
            for criterion in criteria:
                rows += [pruned(run, row, criterion, ratio) for ratio in RATIOS]
            print(form, seed, f"{row['test_accuracy']:.4f}", flush=True)
            env = environment()
            machine = {key: env[key] for key in ("python", "torch", "cpus", "gpu", "threads")}
            head = {"format": "saccade-compression-1", "command": "python benchmarks/compression.py"}
            table = {**head, "protocol": recipe("full", 0, Path("TEACHER")), "finetune": {"epochs": 3, "lr": 2e-3}}
            write_text(arguments.out, json.dumps({**table, "machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
