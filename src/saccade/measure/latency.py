"""How long a call takes, here and now."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

WARM_UP, FEWEST, SECONDS = 3, 10, 2.0


@dataclass(frozen=True)
class Latency:
    """Of single calls, in milliseconds: median and quartiles over ``calls``; on what, with how many threads."""

    median_ms: float
    low_ms: float
    high_ms: float
    calls: int
    device: str
    threads: int


def latency(model: nn.Module, x: Tensor, seconds: float = SECONDS) -> Latency:
    """Call the model on ``x`` for about so many seconds (at least ten times, after three that do not count).

    In eval mode, without gradients, on the device of the model's parameters; the model is left in the mode it came in.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    x, training = x.to(device), model.training
    times: list[float] = []
    model.eval()
    try:
        with torch.inference_mode():
            for _ in range(WARM_UP):
                model(x)
            _wait(device)
            began = time.perf_counter()
            while len(times) < FEWEST or time.perf_counter() - began < seconds:
                start = time.perf_counter()
                model(x)
                _wait(device)
                times.append(1e3 * (time.perf_counter() - start))
    finally:
        model.train(training)
    low, median, high = statistics.quantiles(times, n=4)
    return Latency(median, low, high, len(times), device.type, torch.get_num_threads())


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
