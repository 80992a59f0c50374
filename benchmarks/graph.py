"""How much a trace costs: its time over that of a forward pass of the same input, for several registered models.

    python benchmarks/graph.py [--repeats 5]

Medians; one thread or as many as OMP_NUM_THREADS says. Counting the same input is printed beside it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from saccade.graph import ties, trace
from saccade.measure import profile
from saccade.models import create_model, model_card

MODELS = (
    "vgg_small",
    "rows_mlp",
    "or_resnet18_small",
    "syna_resnet18_small",
    "sew_resnet34_small",
    "ms_resnet18_small",
)


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[repeats // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    print(f"{'model':22} {'forward ms':>10} {'trace':>7} {'ties':>7} {'profile':>8}   (times a forward pass)")
    for name in MODELS:
        torch.manual_seed(0)
        model = create_model(name).eval()
        x = torch.rand(8, *model_card(name).input)
        with torch.no_grad():
            forward = median_seconds(lambda model=model, x=x: model(x), repeats)
        traced = median_seconds(lambda model=model, x=x: trace(model, x), repeats)
        graph = trace(model, x)
        tied = median_seconds(lambda graph=graph: ties(graph), repeats)
        counted = median_seconds(lambda model=model, x=x: profile(model, x), repeats)
        ratios = (traced / forward, tied / forward, counted / forward)
        print(f"{name:22} {forward * 1e3:10.2f} {ratios[0]:7.1f} {ratios[1]:7.1f} {ratios[2]:8.1f}")


if __name__ == "__main__":
    main()
