"""A training step on a GPU: our LIF as a Triton kernel and as a plain loop, spikes kept as bits and whole.

    python benchmarks/gpu_step.py [--out results/benchmarks/gpu-step.json]

Batch of 128 pictures of 32x32, AdamW, the median of 20 steps after 5 that warm up, each timed to the end of its work on the
card; peak of allocated memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from saccade import kernels
from saccade.experiment import environment
from saccade.layers import set_spike_packing
from saccade.models import create_model
from saccade.report import write_text

NETS = {"wrn16_4_small": {}, "spiking_vgg11_small": {}, "or_resnet18_small": {}, "spikformer_4_384_cifar": {"T": 4}}
BATCH, WARM, STEPS = 128, 5, 20
FORMS = (
    ("auto", False, False),
    ("auto", True, False),
    ("reference", False, False),
    ("auto", False, True),
    ("auto", True, True),
)


def measured(net: str, form: str, packed: bool, half: bool) -> dict[str, Any]:
    """Milliseconds and megabytes of a step; ``half``: bf16 and channels last."""
    torch.manual_seed(0)
    layout = {"memory_format": torch.channels_last} if half else {}
    model = create_model(net, **NETS[net]).cuda().to(**layout)
    x = torch.rand(BATCH, 3, 32, 32, device="cuda").to(**layout)
    y = torch.randint(0, 10, (BATCH,), device="cuda")
    set_spike_packing(model, packed)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)

    def step() -> float:
        began = time.perf_counter()
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            loss = F.cross_entropy(model(x, steps=True).float().mean(0), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        torch.cuda.synchronize()
        return (time.perf_counter() - began) * 1e3

    with kernels.use(form):
        for _ in range(WARM):
            step()
        torch.cuda.reset_peak_memory_stats()
        times = [step() for _ in range(STEPS)]
    return {
        "net": net, "neurons": "Triton" if form == "auto" else "torch loop", "spikes": "bits" if packed else "whole",
        "precision": "bf16, channels last" if half else "float32", "ms": round(statistics.median(times), 2),
        "peak_mb": round(torch.cuda.max_memory_allocated() / 1e6),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("gpu_step.py: there is no CUDA device here")
    rows = []
    for net in NETS:
        for form, packed, half in FORMS:
            rows.append(measured(net, form, packed, half))
            print(rows[-1], flush=True)
    made = environment()
    record = {
        "format": "saccade-gpu-step-1", "device": torch.cuda.get_device_name(), "torch": torch.__version__,
        "commit": made["commit"], "batch": BATCH, "rows": rows,
    }  # fmt: skip
    if given.out:
        write_text(given.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
