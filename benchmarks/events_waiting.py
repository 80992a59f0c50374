"""How long a training step waits for its events: python benchmarks/events_waiting.py --data FOLDER [--steps N]

The small network of recipes/events/nmnist-small.yaml on a data folder with nmnist-small (`saccade data prepare nmnist-small`):
the time that `next(batches)` takes, from recordings on disk to a batch of frames, as a share of the step around it (batch,
forward, backward, optimizer), in CPU time of one process and one thread. With frames kept on disk, and made anew of the
recordings every time; plain, and with augmentation. Files are in the page cache: an epoch goes before what is measured. Writes
results/events/waiting.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from events_frames import machine

from saccade.data import batches
from saccade.experiment import build_model, environment, fit_task, load_recipe, load_splits
from saccade.kernels import keep_memory
from saccade.report import write_text
from saccade.train.optimizers import build_optimizer

ROOT = Path(__file__).parents[1]


def measure(data: Path, steps: int, cache: bool, augment: list[str]) -> dict[str, Any]:
    recipe = load_recipe("events/nmnist-small", [f"data.config.cache={cache}", f"data.augment={augment}"])
    splits = load_splits(recipe.data, data)
    torch.manual_seed(0)
    model = build_model(recipe.model).train()
    task = fit_task(recipe.task, model, splits, "model")
    change = task.augmentation(recipe.data.augmentation(), splits.train)
    optimizer = build_optimizer(model, recipe.train)
    size = recipe.train.batch_size
    waits, wholes = [], []
    for epoch in range(1 + -(-steps * size // len(splits.train))):
        stream = iter(batches(splits.train, size, seed=0, epoch=epoch, drop_last=True))
        while True:
            started = time.process_time()
            x, y = next(stream, (None, None))
            waited = time.process_time() - started
            if x is None or y is None:
                break
            x, y = change(x, y)
            optimizer.zero_grad()
            task.loss(model(x, steps=True), y).backward()
            optimizer.step()
            waits.append(waited)
            wholes.append(time.process_time() - started)
    first = len(splits.train) // size  # an epoch to warm up
    waits, wholes = waits[first : first + steps], wholes[first : first + steps]
    return {
        "kept_frames": cache,
        "augment": augment,
        "batch": size,
        "steps": len(waits),
        "wait_ms": round(1e3 * statistics.median(waits), 3),
        "step_ms": round(1e3 * statistics.median(wholes), 2),
        "sample_us": round(1e6 * statistics.median(waits) / size, 1),
        "share": round(sum(waits) / sum(wholes), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=36)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "events" / "waiting.json")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    rows = []
    for cache in (True, False):
        for augment in ([], ["crop", "nda", "eventdrop"]):
            rows.append(measure(settings.data, settings.steps, cache, augment))
            print(rows[-1], flush=True)
    record = {
        "format": "saccade-events-waiting-1",
        "command": f"python benchmarks/events_waiting.py --data FOLDER --steps {settings.steps}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "measure": "time in next(batches) over time of whole steps, CPU time of one process and thread",
        "machine": machine(),
        "environment": environment(),
        "rows": rows,
    }
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(settings.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
