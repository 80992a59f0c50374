"""A training step of Spikformer-4-384, and its peak memory, against the same network with SpikingJelly's neurons.

    python benchmarks/spikformer_step.py --allocator keep
    python benchmarks/spikformer_step.py --allocator default

Only the neurons differ: the layers, the attention, the weights and the batch are the same. CIFAR shapes, T = 4, 9,320,122
parameters, batch of 16, SGD with momentum, cross-entropy of the mean over time; in float32 and in mixed precision (bfloat16,
which ``precision: auto`` takes where a processor has it).
"""

from __future__ import annotations

import argparse
import copy
from functools import lru_cache

import torch
from side_by_side import Case, Contender, run
from torch import nn
from training import LAYOUTS, T, contender, data, with_spikingjelly

from saccade.models import create_model

MODEL = "spikformer_4_384_cifar"


@lru_cache
def source() -> nn.Module:
    """The weights for all, with running statistics that have seen the data."""
    torch.manual_seed(0)
    net = create_model(MODEL, T=T)
    with torch.no_grad():
        for _ in range(3):
            net(data(8)[0])
    return net


def contenders(batch: int, bf16: bool = False) -> list[Contender]:
    x, target = data(batch)
    nets = {"saccade": lambda net: net, "saccade reference": lambda net: net, "SpikingJelly neurons": with_spikingjelly}
    return [
        contender(name, layout, lambda change=change: change(copy.deepcopy(source())), x, target, train=True, bf16=bf16)
        for name, change in nets.items()
        for layout in LAYOUTS
    ]


def cases(options: argparse.Namespace) -> list[Case]:
    batch = 2 if options.quick else 16
    fields = {"net": MODEL, "T": T, "batch": batch}
    timed = [
        Case({"table": table, **fields}, lambda small, bf16=bf16: contenders(2 if small else batch, bf16))
        for table, bf16 in (("train", False), ("train-bf16", True))
    ]
    return [*timed, Case({"table": "memory", **fields}, lambda small: contenders(2 if small else batch), memory=True)]


if __name__ == "__main__":
    run("spikformer-step", __doc__ or "", cases)
