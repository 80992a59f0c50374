"""Kernels of the engine side by side in one process, by layer: how many times as fast as event rows each of them is.

    SACCADE_ISA=avx2 python benchmarks/engine_kernels.py [--to results/benchmarks/engine-kernels-avx2.json]

The second and third convolution of inference_nets.py, whose inputs fire at a rate; batch 1, one thread. Kernels take
turns; a ratio is the median over the turns of event rows' time over the kernel's within a turn (each the median of 20
calls, with preparation).
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inference_nets import chain
from side_by_side import machine

from saccade.deploy import engine, lower
from saccade.experiment import environment
from saccade.report import write_text

KERNELS = ("events", "tables", "counts", "codebook")
RATES = (0.05, 0.1, 0.2, 0.4)


def layers(runner: Any) -> dict[int, tuple[str, float]]:
    """By wire, of the layers of spikes: how it is made, and microseconds with its preparation."""
    found: dict[int, tuple[str, float]] = {}
    for (wire, how), took in zip(runner.steps(), runner.time(20, 1, 0.5), strict=True):
        found[wire] = (how, found.get(wire, ("", 0.0))[1] + took)
    return {wire: made for wire, made in found.items() if made[0] in KERNELS}


def measure(width: str, rate: float, turns: int) -> list[dict[str, Any]]:
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32)).astype(np.uint8)
    pixels = torch.from_numpy(x).float()
    program = lower(chain(width, rate, pixels).eval(), pixels / 255)
    answer = np.empty((1, *engine.answer_shape(program)))
    runners = {name: engine.plan(program, program.T, kernel=name) for name in KERNELS}
    for runner in runners.values():
        runner.run(x[:1], answer, False, 1)
    times: dict[tuple[int, str], list[float]] = {}
    for _ in range(turns):
        for name, runner in runners.items():
            for wire, (how, took) in layers(runner).items():
                if how == name:
                    times.setdefault((wire, name), []).append(took)
    rows = []
    for number, wire in enumerate(sorted({wire for wire, _ in times})[:2], 2):
        events = times[wire, "events"]
        row: dict[str, Any] = {"bits": width, "rate": rate, "layer": f"conv{number}"}
        row["events_us"] = round(statistics.median(events), 1)
        for name in KERNELS[1:]:
            if (wire, name) in times:
                ratios = [a / b for a, b in zip(events, times[wire, name], strict=True)]
                row[name] = round(statistics.median(ratios), 2)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path)
    parser.add_argument("--turns", type=int, default=11)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for width in ("8", "4", "2", "1", "0.44"):
        for rate in RATES:
            for row in measure(width, rate, options.turns):
                print(row, flush=True)
                rows.append(row)
    if options.to:
        about = {"commit": environment()["commit"], "machine": machine(), "turns": options.turns}
        write_text(options.to, json.dumps(about | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
