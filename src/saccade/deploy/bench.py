"""Times of a program: calls beside rivals, and the share of each layer."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from saccade.deploy.engine import answer_shape, plan
from saccade.deploy.program import Program

ROUNDS = 10
Quartiles = tuple[float, float, float]


def timed(rivals: dict[str, Callable[[], Any]], calls: int) -> dict[str, Quartiles]:
    """Seconds a call of each, quartiles over ``calls`` calls in rounds that are interleaved; garbage collection is off."""
    took: dict[str, list[float]] = {name: [] for name in rivals}
    was = gc.isenabled()
    gc.disable()
    try:
        for _ in range(ROUNDS):
            for name, call in rivals.items():
                for _ in range(3):
                    call()
                for _ in range(max(calls // ROUNDS, 1)):
                    begin = time.perf_counter()
                    call()
                    took[name].append(time.perf_counter() - begin)
    finally:
        if was:
            gc.enable()
    low, middle, high = 0.25, 0.5, 0.75
    found = {name: np.quantile(times, (low, middle, high)) for name, times in took.items()}
    return {name: (float(a), float(b), float(c)) for name, (a, b, c) in found.items()}


def layer_times(program: Program, x: npt.NDArray[Any], threads: int, rounds: int) -> list[tuple[int, str, float]]:
    """Of the first sample, by step of the engine: the wire that it makes, how, and the median microseconds.

    Raises ValueError where the engine cannot run the program.
    """
    T = len(x) if program.sequence else program.T
    runner = plan(program, T)
    one = x[:, :1] if program.sequence else x[:1]
    runner.run(np.ascontiguousarray(one), np.empty((1, *answer_shape(program))), program.sequence, 1)
    times = runner.time(rounds, threads, 0.5)
    return [(wire, how, took) for (wire, how), took in zip(runner.steps(), times, strict=True)]
