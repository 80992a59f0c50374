"""What an attention holds while it runs, of self-attention and of dendritic dynamics in their forms.

    python benchmarks/attention_memory.py --threads 1 --allocator keep

One step of one sample of 512 channels and 8 heads in eval mode, on spikes of which a fifth fire, at 196 and 1024 tokens. Table
"mix": what lies behind the projections, given q, k and v. Table "attention": all of it, from spikes to spikes. ``tensors_mb``
is the most that tensors made in the call take at once, ``peak_mb`` by how much the process grew; ``state`` numbers held besides
q, k and v where a token is worked off after the other. Times of the same calls are in the rows with ``median_ms``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from side_by_side import Case, Contender, run
from torch import Tensor

from saccade.layers.attention import ATTENTIONS, Site
from saccade.neurons import NEURONS

CHANNELS, HEADS, RATE = 512, 8, 0.2
SIDES = (14, 32)
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "ssa_qk": ("ssa_qk", {}),
    "ssa_kv": ("ssa_kv", {}),
    "lrf_ssa": ("lrf_ssa", {}),
    "lrf_dyn": ("lrf_dyn", {}),
    "lrf_dyn by row": ("lrf_dyn", {"by_row": True}),
    "lrf_dyn by row, no local branch": ("lrf_dyn", {"by_row": True, "dilations": ()}),
}


def contenders(table: str, side: int, channels: int) -> list[Contender]:
    site = Site(channels, HEADS, NEURONS["spikformer"], T=1)

    def contender(label: str) -> Contender:
        name, changes = FORMS[label]
        config = ATTENTIONS[name].changed(name, changes)

        def make() -> Callable[[], Tensor]:
            torch.manual_seed(0)
            attention = config.build(site).eval()
            parts = [(torch.rand(1, 1, channels, side, side) < RATE).float() for _ in attention.parts]

            def forward() -> Tensor:
                with torch.no_grad():
                    return attention.mix(*parts) if table == "mix" else attention(parts[0])

            return forward

        return Contender(label, make, fields={"state": config.state(side * side, channels, HEADS)})

    return [contender(label) for label in FORMS]


def cases(options: argparse.Namespace) -> list[Case]:
    sides, channels = ((4,), 32) if options.quick else (SIDES, CHANNELS)
    return [
        Case(
            {"table": table, "N": side * side, "d": channels, "h": HEADS, "measured": "memory" if memory else "time"},
            lambda small, table=table, side=side: contenders(table, 4 if small else side, channels),
            memory=memory,
            rounds=5,
        )
        for side in sides
        for table in ("mix", "attention")
        for memory in (True, False)
    ]


if __name__ == "__main__":
    run("attention-memory", __doc__ or "", cases)
