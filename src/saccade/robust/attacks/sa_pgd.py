"""Gradient ascent with a memory of gradients and of their squares, for gradients that surrogates make uneven."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from saccade.robust.attacks.base import ATTACKS, Attack, Search


@dataclass(frozen=True)
class SAPGD(Attack):
    """Stable-adaptive PGD: ``m <- m/2 + g/mean|g|``, ``v <- 0.8 v + g^2/mean g^2``, steps ``clip(eta m / (sqrt v + 1e-12))``.

    eta begins at eps and is halved at checkpoints, first after 0.22 of the steps, then ever sooner. A gradient of zero stays
    zero: the released code divides by it, and pictures that are no numbers count as successes there.
    Source: the attack of arXiv 2512.22522 (2026).
    """

    steps: Annotated[int, Field(ge=1)] = 50

    def search(self, s: Search) -> None:
        s.again()
        x = s.start(random=False)
        shape = (-1, *[1] * (x.dim() - 1))

        def mean(values: Tensor) -> Tensor:
            return values.flatten(1).mean(1).clamp(min=1e-30).view(shape)

        noise = s.noise(x, normal=True)
        x = s.project(x + s.threat.eps * noise / noise.abs().flatten(1).amax(1).clamp(min=1e-30).view(shape))
        m, v, size = torch.zeros_like(x), torch.zeros_like(x), s.threat.eps
        period, check = max(int(0.22 * self.steps), 1), max(int(0.22 * self.steps), 1)
        for k in range(self.steps):
            if not len(x):
                return
            logits, _, g = s.gradient(x)
            keep = s.offer(x, logits)
            x, g, m, v = x[keep], g[keep], m[keep], v[keep]
            m = 0.5 * m + g / mean(g.abs())
            v = 0.8 * v + g.square() / mean(g.square())
            x = s.project(x + (size * m / (v.sqrt() + 1e-12)).clamp(-size, size))
            if k + 1 == check:
                size /= 2
                period = max(period - max(int(0.03 * self.steps), 1), max(int(0.06 * self.steps), 1))
                check += period
        if len(x):
            s.offer(x, s.victim.logits(x))


ATTACKS.register("sa_pgd", SAPGD())
