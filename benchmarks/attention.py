"""Each attention of spikes over the number of tokens: time of a call and the most that its tensors take.

    python benchmarks/attention.py --threads 1 --allocator keep

What is timed is what lies behind the projections (``Attention.mix``), forward, for one step of one sample of 512 channels and 8
heads, on spikes of which a fifth fire. ``tensors_mb`` is the most that tensors made in the call take at once. ``dssa`` has no
reduction here, and makes its own projection.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from side_by_side import Case, Contender, allocated_bytes, run
from torch import Tensor

from saccade.layers.attention import ATTENTIONS, Site
from saccade.neurons import NEURONS

CHANNELS, HEADS, RATE = 512, 8, 0.2
SIDES = (8, 14, 16, 32, 64)  # 64 to 4096 tokens, and the 196 of ImageNet


def contenders(side: int, channels: int) -> list[Contender]:
    site = Site(channels, HEADS, NEURONS["spikformer"], T=1)

    def contender(name: str) -> Contender:
        memory: dict[str, float] = {}

        def make() -> Callable[[], Tensor]:
            torch.manual_seed(0)
            attention = ATTENTIONS[name].build(site).eval()
            parts = [(torch.rand(1, 1, channels, side, side) < RATE).float() for _ in attention.parts or "x"]

            def forward() -> Tensor:
                with torch.no_grad():
                    return attention.mix(*parts)

            forward()
            memory["tensors_mb"] = allocated_bytes(forward) / 2**20
            return forward

        def facts(y: Tensor) -> dict[str, Any]:
            config = ATTENTIONS[name]
            return {**memory, "state": config.state(side * side, channels, HEADS), "mean": float(y.mean())}

        return Contender(name, make, facts)

    return [contender(name) for name in ATTENTIONS]


def cases(options: argparse.Namespace) -> list[Case]:
    sides, channels = ((4, 8), 32) if options.quick else (SIDES, CHANNELS)
    return [
        Case(
            {"table": "forward", "N": side * side, "d": channels, "h": HEADS},
            lambda small, side=side: contenders(4 if small else side, channels),
            rounds=5,
        )
        for side in sides
    ]


if __name__ == "__main__":
    run("attention", __doc__ or "", cases)
