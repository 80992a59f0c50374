"""Spiking networks and int8 ANNs of several widths, trained alike: accuracy over latency, over bytes, over energy.

    python benchmarks/widths.py train --runs RUNS --data DATA [--seeds 3] [--accelerator cuda]
    python benchmarks/widths.py measure --runs RUNS --data DATA     # on a quiet machine; writes results/deploy/widths.json

All are ``vgg_small`` with the channels of the network that comes along times a factor: 30 epochs of CIFAR-10, batch 256, the
same optimizer, the epoch chosen by 2,000 validation images, all 10,000 test images scored once.

* ``ann``: ReLUs and weights in float32, then static int8 by ONNX Runtime (a scale an output channel, 1,024 training pictures to
  calibrate), which is what people deploy.
* ``d4``: integer neurons of 4 levels, T = 1, weights in 4 bits with learned steps; ``d1``: the same with one level, spikes of
  one bit; ``t4``: LIF of four steps. Lowered, run by the native engine from a ``.sacc`` file.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saccade.experiment import parse, run
from saccade.neurons.spiking import NEURONS, NeuronConfig, Spiking

CHANNELS, POOLS = (48, 64, 96, 128, 128, 192), (1, 3, 5)
LSQ = [{"name": "quantize", "config": {"method": "lsq", "bits": 4, "steps": "channel", "skip": []}}]


@dataclass(frozen=True)
class ReluConfig(NeuronConfig):
    """What an ANN has in the place of a neuron."""

    def build(self, *, channels: int | None = None, channel_axis: int = 2, role: str = "") -> Relu:
        return Relu(channels=channels, channel_axis=channel_axis, role=role)


class Relu(Spiking):
    levels = ()
    config = ReluConfig()

    def step(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return torch.relu(x), state

    def state_spec(self, shape: tuple[int, ...]) -> dict[str, Any]:
        return {}


NEURONS.register("relu", ReluConfig())
KINDS: dict[str, tuple[int, Any, list[dict[str, Any]], tuple[float, ...]]] = {  # T, neuron, weights, factors
    "ann": (1, "relu", [], (0.25, 0.375, 0.5, 0.75, 1)),
    "d4": (1, {"name": "ie_lif", "config": {"D": 4}}, LSQ, (0.5, 0.75, 1, 1.5)),
    "d1": (1, {"name": "ie_lif", "config": {"D": 1}}, LSQ, (1, 1.5, 2)),
    "t4": (4, "qp", LSQ, (0.5, 1)),
}
ROWS = {f"{kind}-{factor:g}": (kind, factor) for kind, (*_, factors) in KINDS.items() for factor in factors}


def recipe(row: str, seed: int, accelerator: str) -> dict[str, Any]:
    kind, factor = ROWS[row]
    T, neuron, transforms, _ = KINDS[kind]
    channels = [round(c * factor) for c in CHANNELS]
    return {
        "name": f"widths-{row}",
        "seed": seed,
        "model": {
            "name": "vgg_small",
            "config": {"T": T, "neuron": neuron, "channels": channels, "pools": list(POOLS)},
            "transforms": transforms,
        },
        "data": {"name": "cifar10", "validation": 2000, "augment": ["crop", "flip"]},
        "task": {"name": "classification", "config": {"label_smoothing": 0.1}},
        "train": {
            "epochs": 30, "batch_size": 256, "optimizer": "adamw", "lr": 4e-3, "weight_decay": 0.05, "warmup_epochs": 1,
            "clip_norm": 1.0, "evaluate_every": 3, "ema": 0.998, "precision": "auto", "channels_last": True,
            "accelerator": accelerator,
        },
        "stages": [],
    }  # fmt: skip


def trained(row: str, seed: int, runs: Path, data: str, accelerator: str) -> Path:
    """The run directory of a row, trained if it is not there or not whole."""
    place = runs / f"{row}-seed{seed}"
    if not (place / "summary.json").exists():
        run(parse(recipe(row, seed, accelerator)), place, data=data, quiet=True, report=False, resume=place.exists())
    return place


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("train", "measure"))
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--accelerator", choices=("cpu", "cuda"), default="cpu")
    given = parser.parse_args()
    for seed in range(given.seeds):
        for row in ROWS:
            place = trained(row, seed, given.runs, given.data, given.accelerator)
            summary = json.loads((place / "summary.json").read_text())
            print(f"{row:10} seed {seed}: {summary['test_accuracy']:.2%}", flush=True)


if __name__ == "__main__":
    main()
