"""A training step in float32 and in bf16, on this processor and as one with AVX2 alone would run it.

    python benchmarks/precision.py      # prints the table, writes results/benchmarks/precision.json

``vgg_small``, batch 64, AdamW, one thread; medians and quartiles of interleaved rounds in one process for each instruction
set. AVX2 alone is had by telling torch, oneDNN and our kernels to use no more.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from saccade.report import write_text

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "SACCADE_ISA": "avx2"}
ROUNDS, BATCH = 9, 64
TARGET = Path(__file__).parents[1] / "results" / "benchmarks" / "precision.json"


def measure() -> list[dict]:
    """A row for each precision and layout: seconds a step."""
    import torch
    from torch.nn.functional import cross_entropy

    from saccade.models import create_model

    torch.set_num_threads(1)
    steps = {}
    for precision in ("float32", "bf16"):
        for layout in ("contiguous", "channels_last"):
            torch.manual_seed(0)
            model = create_model("vgg_small")
            if layout == "channels_last":
                model = model.to(memory_format=torch.channels_last)
            optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
            x, y = torch.rand(BATCH, 3, 32, 32), torch.randint(0, 10, (BATCH,))

            def step(model=model, optimizer=optimizer, x=x, y=y, precision=precision) -> None:
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                    loss = cross_entropy(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

            steps[precision, layout] = step
    seconds: dict = {key: [] for key in steps}
    for step in steps.values():
        step()
    for _ in range(ROUNDS):
        for key, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[key].append(time.perf_counter() - start)
    rows = []
    for (precision, layout), times in seconds.items():
        low, median, high = statistics.quantiles(times, n=4)
        rows.append({"precision": precision, "layout": layout, "seconds": median, "low": low, "high": high})
    return rows


def main() -> None:
    if "--measure" in sys.argv:
        print(json.dumps(measure()))
        return
    from saccade.experiment import environment

    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")).split()
    known = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
    record: dict = {
        "format": "saccade-precision-1",
        **environment(),
        "flags": [f for f in known if f in flags],
        "rows": [],
    }
    for name, changes in (("this processor", {}), ("AVX2 alone", AVX2)):
        command = [sys.executable, __file__, "--measure"]
        done = subprocess.run(command, env={**os.environ, **changes}, capture_output=True, text=True, check=True)
        record["rows"] += [{"processor": name, **row} for row in json.loads(done.stdout.splitlines()[-1])]
    for row in record["rows"]:
        spread = f"({row['low']:.3f} to {row['high']:.3f})"
        print(f"{row['processor']:16} {row['precision']:8} {row['layout']:14} {row['seconds']:.3f} s {spread}")
    write_text(TARGET, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
