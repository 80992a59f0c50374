"""Random squares: an attack that asks for answers alone, and so sees through gradients that say nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from saccade.robust.attacks.base import ATTACKS, Attack, Search
from saccade.robust.losses import margin

_HALVINGS = (
    10,
    50,
    200,
    500,
    1000,
    2000,
    4000,
    6000,
    8000,
)  # of 10,000 queries: where the share of a picture is halved


@dataclass(frozen=True)
class Square(Attack):
    """Andriushchenko et al. (2020), the form for the largest change: vertical stripes of +-eps, then squares of one sign a
    channel, kept where the margin grows. queries: answers asked for each sample. p: share of the picture at the start."""

    gradient_free: ClassVar[bool] = True
    queries: Annotated[int, Field(ge=1)] = 1000
    p: Annotated[float, Field(gt=0, le=1)] = 0.8

    def search(self, s: Search) -> None:
        x0 = s.x0
        if x0.dim() < 3:
            raise ValueError(f"squares are cut into pictures [N, ..., H, W], got {list(x0.shape)}")
        height, width = x0.shape[-2:]
        stripes = s.noise(x0[..., :1, :]).sign().expand_as(x0)
        x = s.project(x0 + s.threat.eps * stripes)
        logits = s.victim.logits(x)
        best = margin(logits, s.y)
        keep = s.offer(x, logits)
        x, best = x[keep], best[keep]
        for query in range(1, self.queries):
            if not len(x):
                return
            share = self.p / 2 ** sum(query * 10_000 // self.queries > at for at in _HALVINGS)
            side = min(max(round((share * height * width) ** 0.5), 1), height, width)
            top, left = (
                torch.randint(size - side + 1, (len(x),), generator=s.generator).to(x.device)
                for size in (height, width)
            )
            rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
            inside = ((rows >= top[:, None]) & (rows < top[:, None] + side))[:, :, None] & (
                (columns >= left[:, None]) & (columns < left[:, None] + side)
            )[:, None, :]
            inside = inside.view(len(x), *[1] * (x.dim() - 3), height, width)
            sign = s.noise(x[..., :1, :1]).sign()
            tried = torch.where(inside, s.project(s.x0 + s.threat.eps * sign.expand_as(x)), x)
            logits = s.victim.logits(tried)
            found = margin(logits, s.y)
            better = found > best
            x = torch.where(better.view(-1, *[1] * (x.dim() - 1)), tried, x)
            best = torch.where(better, found, best)
            keep = s.offer(tried, logits)
            x, best = x[keep], best[keep]


ATTACKS.register("square", Square())
ATTACKS.register("square5000", Square(queries=5000))
