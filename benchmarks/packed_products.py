"""Products of spikes in an attention: floats against bits, q kᵀ of eight heads of 64 channels, one thread.

    python benchmarks/packed_products.py [--out results/benchmarks/packed-products.json]

``float``: torch.matmul of float32. ``bits``: a word of 64 bits a token and head, AND and population counts of all pairs
by NumPy (its loops are compiled for the processor), and the counts as float32; ``with packing``: from float32 spikes to
the same. Equal counts are checked. Medians of interleaved rounds. ``kv``: kᵀ v, the order that costs N, by torch.matmul.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from side_by_side import machine

from saccade.experiment import environment
from saccade.report import write_text

HEADS, CHANNELS, RATE, ROUNDS = 8, 64, 0.2, 15


def packed(spikes: np.ndarray) -> np.ndarray:
    """Spikes ``[h, N, 64]`` of float32 as words ``[h, N]``."""
    return np.packbits(spikes.astype(bool), axis=-1, bitorder="little").view(np.uint64)[..., 0]


def counts(q: np.ndarray, k: np.ndarray) -> np.ndarray:
    return np.bitwise_count(q[:, :, None] & k[:, None, :]).astype(np.float32)


def measured(N: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    q, k = ((torch.rand(HEADS, N, CHANNELS, generator=generator) < RATE).float() for _ in range(2))
    a, b = packed(q.numpy()), packed(k.numpy())
    calls: dict[str, Callable[[], Any]] = {
        "float": lambda: q @ k.mT,
        "bits": lambda: counts(a, b),
        "with packing": lambda: counts(packed(q.numpy()), packed(k.numpy())),
        "kv": lambda: k.mT @ q,
    }
    assert np.array_equal(calls["bits"](), calls["float"]().numpy())
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            call()
            began, done = time.perf_counter(), 0
            while time.perf_counter() - began < 0.02:
                call()
                done += 1
            times[name].append((time.perf_counter() - began) / done * 1e3)
    return {"N": N} | {f"{name}_ms": statistics.median(found) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measured(N) for N in (64, 196, 1024)]
    for row in rows:
        print({key: round(value, 4) for key, value in row.items()})
    if given.out:
        record = {
            "format": "saccade-packed-products-1",
            "commit": environment()["commit"],
            "machine": machine(),
            "rows": rows,
        }
        write_text(given.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
