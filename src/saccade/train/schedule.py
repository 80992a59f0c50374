"""The learning rate, a function of the step alone: a resumed run needs no scheduler state."""

from __future__ import annotations

import math


def learning_rate(
    step: int, *, total: int, peak: float, warmup: int = 0, final: float = 0.0, schedule: str = "cosine"
) -> float:
    """Linear from 0 to ``peak`` over ``warmup`` steps, then cosine to ``final`` at ``total`` steps (or constant).

    Source: Loshchilov & Hutter (2017), SGDR, eq. 5, one period.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule == "constant":
        return peak
    done = (step - warmup) / max(total - warmup, 1)
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
