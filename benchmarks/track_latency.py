"""How long a window takes: python benchmarks/track_latency.py --data DATA --out results/track/latency.json

The tracker that comes along on test composites of two sensors, windows of 20 ms, one thread, batch 1: from the window being
complete to the box (frame, crops, network, box; by the clock), and the network alone, by the clock and by the time of the
processor, into which other programs do not count; in PyTorch and as an integer program. And how often both give the same
answer: the network in float32 and in float64 against the program.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saccade.data import DATA_SETS
from saccade.deploy import lower
from saccade.deploy.bench import timed
from saccade.files import load_model
from saccade.track.composites import Composites
from saccade.track.live import follow
from saccade.track.tracker import Tracker, shipped

SENSORS = ((128, 128), (260, 346))
SEQUENCES = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model: Any = load_model(shipped())
    c = model.config
    side = c.search + c.template
    program = lower(model, torch.zeros(1, c.inputs, side, side), unit=1.0)
    exact = copy.deepcopy(model).double()
    canvases: list[Tensor] = []
    record: dict[str, Any] = {
        "format": "saccade-track-latency-1",
        "command": "python benchmarks/track_latency.py --data DATA",
        "date": datetime.date.today().isoformat(),
        "window_ms": {},
    }
    source = DATA_SETS["composites"]
    assert isinstance(source, Composites)
    for height, width in SENSORS:
        _, test = replace(source, height=height, width=width, train_sequences=1, test_sequences=SEQUENCES).parts(
            given.data
        )
        took: dict[str, list[float]] = {"float": [], "integer": []}
        for i in range(len(test)):
            for name, own in (("float", None), ("integer", program)):
                tracker = Tracker(model, own)
                if name == "float":
                    run = tracker._answer
                    tracker._answer = lambda x, run=run: canvases.append(x) or run(x)  # type: ignore[method-assign, func-returns-value]
                steps = list(follow(tracker, tracker.framing, [test.composite(i).events], test.boxes[i][0]))
                took[name] += [step.latency_ms for step in steps[2:]]
        record["window_ms"][f"{width}x{height}"] = {name: median(times) for name, times in took.items()}
    different = {"float32": 0, "float64": 0}
    for x in canvases:
        whole = program.run(x.numpy().astype(np.int64)[None])
        with torch.inference_mode():
            for name, answer in (("float32", model(x[None])), ("float64", exact(x[None].double()))):
                different[name] += int(np.abs(answer.numpy() - whole).max() > 1e-3)
    record["windows"], record["answers_that_differ"] = len(canvases), different
    x = canvases[len(canvases) // 2]
    pixels = x.numpy().astype(np.uint8)[None]

    def eager() -> None:
        with torch.inference_mode():
            model(x[None])

    rivals = {"float": eager, "integer": lambda: program.run(pixels, threads=1)}
    network = timed(rivals, 200)
    record["network_ms"] = {name: [value * 1e3 for value in values] for name, values in network.items()}
    spent: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(20):
        for name, call in rivals.items():
            for _ in range(10):
                begun = time.process_time()
                call()
                spent[name].append((time.process_time() - begun) * 1e3)
    record["network_processor_ms"] = {name: float(np.median(values)) for name, values in spent.items()}
    print(json.dumps(record, indent=1))
    if given.out:
        given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
